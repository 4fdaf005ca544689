# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import abs as abs
from mpqueue.compat.v1 import acos as acos
from mpqueue.compat.v1 import acosh as acosh
from mpqueue.compat.v1 import add as add
from mpqueue.compat.v1 import add_n as add_n
from mpqueue.compat.v1 import angle as angle
from mpqueue.compat.v1 import arg_max as argmax
from mpqueue.compat.v1 import arg_min as argmin
from mpqueue.compat.v1 import asin as asin
from mpqueue.compat.v1 import asinh as asinh
from mpqueue.compat.v1 import atan as atan
from mpqueue.compat.v1 import atan2 as atan2
from mpqueue.compat.v1 import atanh as atanh
from mpqueue.compat.v1 import ceil as ceil
from mpqueue.compat.v1 import conj as conj
from mpqueue.compat.v1 import cos as cos
from mpqueue.compat.v1 import cosh as cosh
from mpqueue.compat.v1 import count_nonzero as count_nonzero
from mpqueue.compat.v1 import cumprod as cumprod
from mpqueue.compat.v1 import cumsum as cumsum
from mpqueue.compat.v1 import div_no_nan as divide_no_nan
from mpqueue.compat.v1 import divide as divide
from mpqueue.compat.v1 import equal as equal
from mpqueue.compat.v1 import erf as erf
from mpqueue.compat.v1 import erfc as erfc
from mpqueue.compat.v1 import exp as exp
from mpqueue.compat.v1 import expm1 as expm1
from mpqueue.compat.v1 import floor as floor
from mpqueue.compat.v1 import floordiv as floordiv
from mpqueue.compat.v1 import floormod as floormod
from mpqueue.compat.v1 import floormod as mod
from mpqueue.compat.v1 import greater as greater
from mpqueue.compat.v1 import greater_equal as greater_equal
from mpqueue.compat.v1 import imag as imag
from mpqueue.compat.v1 import invert_permutation as invert_permutation
from mpqueue.compat.v1 import is_finite as is_finite
from mpqueue.compat.v1 import is_inf as is_inf
from mpqueue.compat.v1 import is_nan as is_nan
from mpqueue.compat.v1 import less as less
from mpqueue.compat.v1 import less_equal as less_equal
from mpqueue.compat.v1 import lgamma as lgamma
from mpqueue.compat.v1 import log as log
from mpqueue.compat.v1 import log1p as log1p
from mpqueue.compat.v1 import logical_and as logical_and
from mpqueue.compat.v1 import logical_not as logical_not
from mpqueue.compat.v1 import logical_or as logical_or
from mpqueue.compat.v1 import logical_xor as logical_xor
from mpqueue.compat.v1 import maximum as maximum
from mpqueue.compat.v1 import minimum as minimum
from mpqueue.compat.v1 import multiply as multiply
from mpqueue.compat.v1 import negative as negative
from mpqueue.compat.v1 import not_equal as not_equal
from mpqueue.compat.v1 import pow as pow
from mpqueue.compat.v1 import real as real
from mpqueue.compat.v1 import reciprocal as reciprocal
from mpqueue.compat.v1 import reduce_all as reduce_all
from mpqueue.compat.v1 import reduce_any as reduce_any
from mpqueue.compat.v1 import reduce_logsumexp as reduce_logsumexp
from mpqueue.compat.v1 import reduce_max as reduce_max
from mpqueue.compat.v1 import reduce_mean as reduce_mean
from mpqueue.compat.v1 import reduce_min as reduce_min
from mpqueue.compat.v1 import reduce_prod as reduce_prod
from mpqueue.compat.v1 import reduce_sum as reduce_sum
from mpqueue.compat.v1 import rint as rint
from mpqueue.compat.v1 import round as round
from mpqueue.compat.v1 import rsqrt as rsqrt
from mpqueue.compat.v1 import sigmoid as sigmoid
from mpqueue.compat.v1 import sign as sign
from mpqueue.compat.v1 import sin as sin
from mpqueue.compat.v1 import sinh as sinh
from mpqueue.compat.v1 import sqrt as sqrt
from mpqueue.compat.v1 import square as square
from mpqueue.compat.v1 import squared_difference as squared_difference
from mpqueue.compat.v1 import subtract as subtract
from mpqueue.compat.v1 import tan as tan
from mpqueue.compat.v1 import tanh as tanh
from mpqueue.compat.v1 import truediv as truediv

__all__ = [
    "abs", "acos", "acosh", "add", "add_n", "angle", "argmax", "argmin", "asin", "asinh", "atan", "atan2", "atanh",
    "ceil", "conj", "cos", "cosh", "count_nonzero", "cumprod", "cumsum", "divide", "divide_no_nan", "equal", "erf",
    "erfc", "exp", "expm1", "floor", "floordiv", "floormod", "greater", "greater_equal", "imag", "invert_permutation",
    "is_finite", "is_inf", "is_nan", "less", "less_equal", "lgamma", "log", "log1p", "logical_and", "logical_not",
    "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply", "negative", "not_equal", "pow", "real",
    "reciprocal", "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min",
    "reduce_prod", "reduce_sum", "rint", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square",
    "squared_difference", "subtract", "tan", "tanh", "truediv",
]  # fmt: skip
