//! Functions of Python's library that the interpreter lacks or has in another way, in Python.
//!
//! `statistics` follows Python: sums are exact (of integers, and of floats as the fractions they are), and only the result is rounded.
//! Only what a labelling function names is put before it.

use std::collections::BTreeSet;

struct Function {
    name: &'static str,
    /// Other functions of this table that it calls.
    calls: &'static [&'static str],
    text: &'static str,
}

const FUNCTIONS: &[Function] = &[
    Function {
        name: "__dl_any",
        calls: &[],
        text: "def __dl_any(test, items):
    for item in items:
        if test(item):
            return True
    return False
",
    },
    Function {
        name: "__dl_all",
        calls: &[],
        text: "def __dl_all(test, items):
    for item in items:
        if not test(item):
            return False
    return True
",
    },
    Function {
        name: "__dl_round",
        calls: &[],
        text: "def __dl_round(number, ndigits=None):
    if ndigits is None or not isinstance(number, float) or number != number or number in (math.inf, -math.inf):
        return round(number) if ndigits is None else round(number, ndigits)
    if ndigits < 0:
        raise NotImplementedError('round() to a negative number of digits')
    return float(f'{number:.{ndigits}f}') if ndigits < 350 else number
",
    },
    Function {
        name: "__dl_div",
        calls: &["__dl_ratio"],
        text: "def __dl_div(left, right):
    if isinstance(left, int) and isinstance(right, int) and right != 0:
        if abs(left) > 9007199254740992 or abs(right) > 9007199254740992:
            return __dl_ratio(-left if right < 0 else left, abs(right))
    return left / right
",
    },
    Function {
        name: "__dl_floordiv",
        calls: &[],
        text: "def __dl_floordiv(left, right):
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        if left is None or right is None or isinstance(left, str) or isinstance(right, str):
            return left // right
        raise NotImplementedError('// of other than numbers')
    if not isinstance(left, float) and not isinstance(right, float):
        return left // right
    left = float(left)
    right = float(right)
    if right == 0.0:
        raise ZeroDivisionError('float floor division by zero')
    if left != left or left in (math.inf, -math.inf) or right != right:
        return math.nan
    rest = math.fmod(left, right)
    quotient = (left - rest) / right
    if rest != 0.0 and (right < 0.0) != (rest < 0.0):
        quotient = quotient - 1.0
    if quotient == 0.0:
        return math.copysign(0.0, left / right)
    if abs(quotient) >= 4503599627370496.0:
        return quotient
    whole = float(math.floor(quotient))
    return whole + 1.0 if quotient - whole > 0.5 else whole
",
    },
    Function {
        name: "__dl_pow",
        calls: &[],
        text: "def __dl_pow(left, right):
    power = left ** right
    if isinstance(power, float) and (power != power or power in (math.inf, -math.inf)):
        if left == left and right == right and abs(left) != math.inf and abs(right) != math.inf:
            if power != power:
                raise NotImplementedError('a root of a negative number is a complex number')
            raise OverflowError(\"(34, 'Numerical result out of range')\")
    return power
",
    },
    Function {
        name: "__dl_divmod",
        calls: &["__dl_floordiv"],
        text: "def __dl_divmod(left, right):
    return (__dl_floordiv(left, right), left % right)
",
    },
    Function {
        name: "__dl_pattern",
        calls: &[],
        text: "def __dl_pattern(pattern):
    if isinstance(pattern, str) and ('$' in pattern or '\\\\Z' in pattern):
        raise NotImplementedError('the end of the text in a pattern that is not written in the call')
    return pattern
",
    },
    Function {
        name: "__dl_ratio",
        calls: &[],
        text: "def __dl_ratio(top, bottom):
    negative = top < 0
    top = -top if negative else top
    if top == 0:
        return 0.0
    shift = 55 - (len(bin(top)) - len(bin(bottom)))
    if shift > 1074:
        shift = 1074
    scaled = top << shift if shift >= 0 else top
    divisor = bottom if shift >= 0 else bottom << -shift
    quotient = scaled // divisor
    if quotient * divisor != scaled:
        quotient = quotient | 1
    result = math.ldexp(float(quotient), -shift)
    return -result if negative else result
",
    },
    Function {
        name: "__dl_exact",
        calls: &[],
        text: "def __dl_exact(value):
    if isinstance(value, bool):
        return (1 if value else 0, 0)
    if isinstance(value, int):
        return (value, 0)
    if not isinstance(value, float):
        raise TypeError(\"can't convert type to numerator/denominator\")
    if value != value or value in (math.inf, -math.inf):
        raise NotImplementedError('statistics of infinite or missing numbers')
    fraction, exponent = math.frexp(value)
    return (int(fraction * 9007199254740992.0), exponent - 53)
",
    },
    Function {
        name: "__dl_sums",
        calls: &["__dl_exact"],
        text: "def __dl_sums(data):
    pairs = [__dl_exact(value) for value in data]
    low = 0
    for pair in pairs:
        if pair[1] < low:
            low = pair[1]
    total = 0
    squares = 0
    for pair in pairs:
        value = pair[0] << (pair[1] - low)
        total = total + value
        squares = squares + value * value
    return (total, squares, -low)
",
    },
    Function {
        name: "__dl_data",
        calls: &[],
        text: "def __dl_data(data, least, message):
    data = list(data)
    if len(data) < least:
        raise ValueError(message)
    return data
",
    },
    Function {
        name: "__dl_floats",
        calls: &[],
        text: "def __dl_floats(data):
    for value in data:
        if isinstance(value, float):
            return True
    return False
",
    },
    Function {
        name: "__dl_number",
        calls: &["__dl_ratio"],
        text: "def __dl_number(top, bottom, floats):
    if not floats and top % bottom == 0:
        return top // bottom
    return __dl_ratio(top, bottom)
",
    },
    Function {
        name: "__dl_isqrt",
        calls: &[],
        text: "def __dl_isqrt(square):
    root = 1 << ((len(bin(square)) - 1) // 2)
    while True:
        better = (root + square // root) >> 1
        if better >= root:
            return root
        root = better
",
    },
    Function {
        name: "__dl_root",
        calls: &["__dl_ratio", "__dl_isqrt"],
        text: "def __dl_root(top, bottom):
    if top == 0:
        return 0.0
    half = (len(bin(top)) - len(bin(bottom)) - 109) // 2
    scaled = top if half >= 0 else top << (-2 * half)
    divisor = bottom << (2 * half) if half >= 0 else bottom
    root = __dl_isqrt(scaled // divisor)
    if root * root * divisor != scaled:
        root = root | 1
    return __dl_ratio(root << half, 1) if half >= 0 else __dl_ratio(root, 1 << -half)
",
    },
    Function {
        name: "__dl_fsum",
        calls: &["__dl_sums", "__dl_ratio"],
        text: "def __dl_fsum(data):
    total, squares, scale = __dl_sums(list(data))
    return __dl_ratio(total, 1 << scale)
",
    },
    Function {
        name: "__dl_statistics_mean",
        calls: &["__dl_data", "__dl_sums", "__dl_floats", "__dl_number"],
        text: "def __dl_statistics_mean(data):
    data = __dl_data(data, 1, 'mean requires at least one data point')
    total, squares, scale = __dl_sums(data)
    return __dl_number(total, len(data) << scale, __dl_floats(data))
",
    },
    Function {
        name: "__dl_statistics_fmean",
        calls: &["__dl_data", "__dl_fsum"],
        text: "def __dl_statistics_fmean(data):
    data = __dl_data(data, 1, 'fmean requires at least one data point')
    return __dl_fsum(data) / len(data)
",
    },
    Function {
        name: "__dl_statistics_median",
        calls: &["__dl_data"],
        text: "def __dl_statistics_median(data):
    data = sorted(__dl_data(data, 1, 'no median for empty data'))
    half = len(data) // 2
    return data[half] if len(data) % 2 == 1 else (data[half - 1] + data[half]) / 2
",
    },
    Function {
        name: "__dl_statistics_median_low",
        calls: &["__dl_data"],
        text: "def __dl_statistics_median_low(data):
    data = sorted(__dl_data(data, 1, 'no median for empty data'))
    return data[(len(data) - 1) // 2]
",
    },
    Function {
        name: "__dl_statistics_median_high",
        calls: &["__dl_data"],
        text: "def __dl_statistics_median_high(data):
    data = sorted(__dl_data(data, 1, 'no median for empty data'))
    return data[len(data) // 2]
",
    },
    Function {
        name: "__dl_statistics_multimode",
        calls: &[],
        text: "def __dl_statistics_multimode(data):
    counts = {}
    for value in data:
        counts[value] = counts.get(value, 0) + 1
    most = max(counts.values()) if counts else 0
    return [value for value in counts if counts[value] == most]
",
    },
    Function {
        name: "__dl_statistics_mode",
        calls: &["__dl_data", "__dl_statistics_multimode"],
        text: "def __dl_statistics_mode(data):
    return __dl_statistics_multimode(__dl_data(data, 1, 'no mode for empty data'))[0]
",
    },
    Function {
        name: "__dl_spread",
        calls: &["__dl_data", "__dl_sums"],
        text: "def __dl_spread(data, least, message):
    data = __dl_data(data, least, message)
    total, squares, scale = __dl_sums(data)
    return (len(data) * squares - total * total, len(data) << (2 * scale), data)
",
    },
    Function {
        name: "__dl_statistics_variance",
        calls: &["__dl_spread", "__dl_floats", "__dl_number"],
        text: "def __dl_statistics_variance(data):
    top, bottom, data = __dl_spread(data, 2, 'variance requires at least two data points')
    return __dl_number(top, bottom * (len(data) - 1), __dl_floats(data))
",
    },
    Function {
        name: "__dl_statistics_pvariance",
        calls: &["__dl_spread", "__dl_floats", "__dl_number"],
        text: "def __dl_statistics_pvariance(data):
    top, bottom, data = __dl_spread(data, 1, 'pvariance requires at least one data point')
    return __dl_number(top, bottom * len(data), __dl_floats(data))
",
    },
    Function {
        name: "__dl_statistics_stdev",
        calls: &["__dl_spread", "__dl_root"],
        text: "def __dl_statistics_stdev(data):
    top, bottom, data = __dl_spread(data, 2, 'stdev requires at least two data points')
    return __dl_root(top, bottom * (len(data) - 1))
",
    },
    Function {
        name: "__dl_statistics_pstdev",
        calls: &["__dl_spread", "__dl_root"],
        text: "def __dl_statistics_pstdev(data):
    top, bottom, data = __dl_spread(data, 1, 'pstdev requires at least one data point')
    return __dl_root(top, bottom * len(data))
",
    },
];

/// The function of that name, as it is kept.
pub fn find(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|function| function.name == name).map(|function| function.name)
}

/// The text of these functions and of those they call.
pub fn text(names: &BTreeSet<&'static str>) -> String {
    let mut needed = names.clone();
    loop {
        let before = needed.len();
        for function in FUNCTIONS {
            if needed.contains(function.name) {
                needed.extend(function.calls);
            }
        }
        if needed.len() == before {
            break;
        }
    }
    let mut text = String::new();
    if !needed.is_empty() {
        text.push_str("import math as __dl_math\n");
    }
    for function in FUNCTIONS.iter().filter(|function| needed.contains(function.name)) {
        text.push_str(&function.text.replace("math.", "__dl_math."));
    }
    text
}
