/* The templates for float and double, for one set of instructions. */

#define REAL float
#define UNSIGNED uint32_t
#define MANTISSA_BITS 23
#define ONE_BITS 0x3f800000u
#define ROUND_SHIFT 12582912.0f /* 1.5 * 2^23 */
#define LOG2_HIGH 0.693359375f
#define LOG2_LOW -2.12194440e-4f
#define EXP_MOST 88.3f
#define EXP_LEAST -87.3f
#define SERIES_LENGTH 7
#define LARGEST FLT_MAX
#define EPSILON FLT_EPSILON
#define TOLERANCE 3.4526698300124393e-4f /* root of the epsilon */
#define FABS fabsf
#define SQRT sqrtf
#include "_perceptron_products.h"
#include "_perceptron_functions.h"
#include "_perceptron_values.h"
#include "_perceptron_steps.h"
#include "_perceptron_tasks.h"
#include "_process.h"
#include "_adamw.h"
#undef REAL
#undef UNSIGNED
#undef MANTISSA_BITS
#undef ONE_BITS
#undef ROUND_SHIFT
#undef LOG2_HIGH
#undef LOG2_LOW
#undef EXP_MOST
#undef EXP_LEAST
#undef SERIES_LENGTH
#undef LARGEST
#undef EPSILON
#undef TOLERANCE
#undef FABS
#undef SQRT

#define REAL double
#define UNSIGNED uint64_t
#define MANTISSA_BITS 52
#define ONE_BITS 0x3ff0000000000000u
#define ROUND_SHIFT 6755399441055744.0 /* 1.5 * 2^52 */
#define LOG2_HIGH 6.93145751953125e-1
#define LOG2_LOW 1.42860682030941723212e-6
#define EXP_MOST 709.4
#define EXP_LEAST -708.0
#define SERIES_LENGTH 13
#define LARGEST DBL_MAX
#define EPSILON DBL_EPSILON
#define TOLERANCE 1.4901161193847656e-8
#define FABS fabs
#define SQRT sqrt
#include "_perceptron_products.h"
#include "_perceptron_functions.h"
#include "_perceptron_values.h"
#include "_perceptron_steps.h"
#include "_perceptron_tasks.h"
#include "_process.h"
#include "_adamw.h"
#undef REAL
#undef UNSIGNED
#undef MANTISSA_BITS
#undef ONE_BITS
#undef ROUND_SHIFT
#undef LOG2_HIGH
#undef LOG2_LOW
#undef EXP_MOST
#undef EXP_LEAST
#undef SERIES_LENGTH
#undef LARGEST
#undef EPSILON
#undef TOLERANCE
#undef FABS
#undef SQRT
