/**
 * WGSL functions that the language lacks or leaves undefined where ONNX defines them. Vector forms end in `4`.
 *
 * WGSL lets an implementation assume that no NaN or infinity occurs (section 15.7, "Floating Point Evaluation") and makes
 * constant expressions that give one an error, so both are made and recognized from bits, through a `var`.
 */
import { FEW_BITS_HELPERS, type FewBitsHelper } from './few-bits.ts';
import { lanes } from './lanes.ts';

interface Helper {
  readonly code: string;
  readonly needs: readonly HelperName[];
}

export type HelperName =
  | FewBitsHelper
  | 'inf' | 'nan' | 'is_nan' | 'is_nan4' | 'is_posinf' | 'is_posinf4' | 'is_neginf' | 'is_neginf4' | 'erf1' | 'erf14' | 'erf_half' | 'erf_half4' | 'erf_byte' | 'erf_byte4' | 'exp_half' | 'exp_half4' | 'tanh1' | 'tanh14'
  | 'pow1' | 'pow14' | 'irem' | 'irem4' | 'imod' | 'imod4' | 'quotient1' | 'quotient14' | 'cfmod' | 'cfmod4' | 'fmodf' | 'fmodf4' | 'ipow' | 'ipow4' | 'asinh1' | 'asinh14' | 'acosh1' | 'acosh14' | 'atanh1' | 'atanh14'
  | 'exp1' | 'exp14' | 'log1' | 'log14' | 'finite1' | 'finite14' | 'softmax_sum' | 'softmax_sum4' | 'quarters4' | 'sin1' | 'sin14' | 'cos1' | 'cos14' | 'tan1' | 'tan14' | 'round_bfloat16' | 'round_bfloat164' | 'half_at' | 'halves_to_f32' | 'f32_to_halves' | 'split_halves' | 'scale_halves' | 'half_moments' | 'stored_moments';

export const HELPERS: { readonly [K in HelperName]: Helper } = {
  ...FEW_BITS_HELPERS,
  // The upper half of the bits, to nearest even; a carry goes into the exponent, as far as infinity.
  round_bfloat16: {
    code: `fn round_bfloat16(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  return select(bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u), x, is_nan(x));
}
`,
    needs: ['is_nan'],
  },
  round_bfloat164: { code: lanes('round_bfloat16', ['x'], 'f32', 'f32'), needs: ['round_bfloat16'] },
  half_at: { code: 'fn half_at(word: u32, index: u32) -> f32 { let pair = unpack2x16float(word); return select(pair.x, pair.y, (index & 1u) == 1u); }\n', needs: [] },
  halves_to_f32: { code: 'fn halves_to_f32(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)); }\n', needs: [] },
  // Four floats as their halves and the halves of what these leave; both saturate.
  split_halves: {
    code: `fn split_halves(bits: vec4<u32>) -> vec4<u32> {
  let x = clamp(bitcast<vec4<f32>>(bits), vec4<f32>(-65504.0), vec4<f32>(65504.0));
  let high = vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw));
  let rest = x - vec4<f32>(unpack2x16float(high.x), unpack2x16float(high.y));
  return vec4<u32>(high, pack2x16float(rest.xy), pack2x16float(rest.zw));
}
`,
    needs: [],
  },
  scale_halves: {
    code: `fn scale_halves(words: vec4<u32>, factors: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(f32_to_halves(halves_to_f32(words.xy) * halves_to_f32(factors.xy)), f32_to_halves(halves_to_f32(words.zw) * halves_to_f32(factors.zw)));
}
`,
    needs: ['f32_to_halves', 'halves_to_f32'],
  },
  // Sum and sum of squares.
  half_moments: {
    code: `fn half_moments(words: vec4<u32>) -> vec2<f32> {
  let a = unpack2x16float(words.x);
  let b = unpack2x16float(words.y);
  let c = unpack2x16float(words.z);
  let d = unpack2x16float(words.w);
  let sum = (a + b) + (c + d);
  return vec2<f32>(sum.x + sum.y, (dot(a, a) + dot(b, b)) + (dot(c, c) + dot(d, d)));
}
`,
    needs: [],
  },
  // The same of four floats as halves hold them.
  stored_moments: {
    code: `fn stored_moments(values: vec4<f32>) -> vec2<f32> {
  let a = unpack2x16float(pack2x16float(values.xy));
  let b = unpack2x16float(pack2x16float(values.zw));
  let sum = a + b;
  return vec2<f32>(sum.x + sum.y, dot(a, a) + dot(b, b));
}
`,
    needs: [],
  },
  // Beyond binary16's range pack2x16float is indeterminate: finite values saturate, NaN passes.
  f32_to_halves: {
    code: `fn f32_to_halves(x: vec4<f32>) -> vec2<u32> {
  let finite = select(clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)), x, is_nan4(x));
  return vec2<u32>(pack2x16float(finite.xy), pack2x16float(finite.zw));
}
`,
    needs: ['is_nan4'],
  },
  inf: { code: 'fn inf() -> f32 { var bits = 0x7f800000u; return bitcast<f32>(bits); }\n', needs: [] },
  nan: { code: 'fn nan() -> f32 { var bits = 0x7fc00000u; return bitcast<f32>(bits); }\n', needs: [] },
  is_nan: { code: 'fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }\n', needs: [] },
  is_nan4: {
    code: 'fn is_nan4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }\n',
    needs: [],
  },
  is_posinf: { code: 'fn is_posinf(x: f32) -> bool { return bitcast<u32>(x) == 0x7f800000u; }\n', needs: [] },
  is_posinf4: { code: 'fn is_posinf4(x: vec4<f32>) -> vec4<bool> { return bitcast<vec4<u32>>(x) == vec4<u32>(0x7f800000u); }\n', needs: [] },
  is_neginf: { code: 'fn is_neginf(x: f32) -> bool { return bitcast<u32>(x) == 0xff800000u; }\n', needs: [] },
  is_neginf4: { code: 'fn is_neginf4(x: vec4<f32>) -> vec4<bool> { return bitcast<vec4<u32>>(x) == vec4<u32>(0xff800000u); }\n', needs: [] },
  // Near zero, the Maclaurin series of erf (7 terms, |x| < 0.5); elsewhere 1 − P(t)·exp(−x²), Numerical Recipes' erfcc
  // (fractional error below 1.2e-7).
  erf1: {
    code: `fn erf1(x: f32) -> f32 {
  let a = min(abs(x), 10.0);
  let s = a * a;
  let near = a * 1.1283791671 * (1.0 + s * (-0.33333333333 + s * (0.1 + s * (-0.0238095238 + s * (0.00462962963 + s * (-0.000757575758 + s * 0.000106837607))))));
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -s - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807
    + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let far = 1.0 - t * exp(p);
  return select(select(1.0, -1.0, x < 0.0) * select(far, near, a < 0.5), x, is_nan(x));
}
`,
    needs: ['is_nan'],
  },
  erf14: { code: lanes('erf1', ['x'], 'f32', 'f32'), needs: ['erf1'] },
  // For halves: the odd polynomial of degree 23 that is closest to it within ±3.4 and 1 at the end, beyond which it stays (absolute error below 2e-6).
  // In a network's GELU it is half the work of a form with a division and an exponential.
  erf_half: {
    code: `fn erf_half(x: f32) -> f32 {
  let z = clamp(x * 0.294117647, -1.0, 1.0);
  let u = 2.0 * z * z - 1.0;
  let p = 1.41325974 + u * (-0.700725853 + u * (0.508466959 + u * (-0.390356272 + u * (0.29321155 + u
    * (-0.211219192 + u * (0.143832237 + u * (-0.0825777501 + u * (0.0385751911 + u * (-0.0262880065 + u * (0.0208829511 + u * (-0.00706158159)))))))))));
  return select(z * p, x, is_nan(x));
}
`,
    needs: ['is_nan'],
  },
  // For results that are quantized to bytes: least error of x/2·(1 + erf(x/√2)), 5·10⁻⁴ (linear programming), and 1 from 2.6 on. Bounds of 0 and 1 cost nothing.
  erf_byte: {
    code: `fn erf_byte(x: f32) -> f32 {
  let v = saturate(x * 0.192307692 + 0.5) - 0.5;
  let u = v * v;
  return v * (5.83214833 + u * (-49.8379633 + u * (338.753832 + u * (-1446.46238 + u * (3421.85769 - u * 3389.87911)))));
}
`,
    needs: [],
  },
  erf_byte4: { code: lanes('erf_byte', ['x'], 'f32', 'f32'), needs: ['erf_byte'] },
  erf_half4: { code: lanes('erf_half', ['x'], 'f32', 'f32'), needs: ['erf_half'] },
  // tanh of large arguments overflows to NaN where a driver computes it from exp; clamp makes a number of a NaN that came in.
  tanh1: { code: 'fn tanh1(x: f32) -> f32 { return select(tanh(clamp(x, -15.0, 15.0)), x, is_nan(x)); }\n', needs: ['is_nan'] },
  tanh14: { code: 'fn tanh14(x: vec4<f32>) -> vec4<f32> { return select(tanh(clamp(x, vec4<f32>(-15.0), vec4<f32>(15.0))), x, is_nan4(x)); }\n', needs: ['is_nan4'] },
  // Inverse hyperbolic functions by their logarithms; near zero, where 1 + x drops the digits of x, by their Maclaurin series. Drivers give
  // what they like beyond the functions' domains, and for negative x may lose everything in asinh.
  asinh1: {
    code: `fn asinh1(x: f32) -> f32 {
  let a = abs(x);
  let s = x * x;
  let near = x * (1.0 + s * (-0.16666667 + s * (0.075 - s * 0.044642857)));
  let far = sign(x) * (log1(select(a + sqrt(s + 1.0), a, a > 1.0e10)) + select(0.0, 0.69314718, a > 1.0e10));
  return select(select(far, near, a < 0.125), x, is_nan(x));
}
`,
    needs: ['is_nan', 'log1'],
  },
  asinh14: { code: lanes('asinh1', ['x'], 'f32', 'f32'), needs: ['asinh1'] },
  acosh1: {
    code: `fn acosh1(x: f32) -> f32 {
  let near = log1(x + sqrt(max(x - 1.0, 0.0)) * sqrt(max(x + 1.0, 0.0)));
  return select(select(near, log1(x) + 0.69314718, x > 1.0e10), nan(), x < 1.0);
}
`,
    needs: ['log1', 'nan'],
  },
  acosh14: { code: lanes('acosh1', ['x'], 'f32', 'f32'), needs: ['acosh1'] },
  atanh1: {
    code: `fn atanh1(x: f32) -> f32 {
  let s = x * x;
  let near = x * (1.0 + s * (0.33333333 + s * (0.2 + s * 0.14285714)));
  return select(0.5 * (log1(1.0 + x) - log1(1.0 - x)), near, abs(x) < 0.125);
}
`,
    needs: ['log1'],
  },
  atanh14: { code: lanes('atanh1', ['x'], 'f32', 'f32'), needs: ['atanh1'] },
  // WGSL allows exp an error that grows with |x|, and drivers use it. This is Cephes' expf: the range is reduced with log 2 in
  // two parts, a polynomial of degree 7 does the rest (error below 2 ULP), and NaN and infinities stay what they are.
  exp14: {
    code: `fn exp14(x: vec4<f32>) -> vec4<f32> {
  let a = clamp(x, vec4<f32>(-104.0), vec4<f32>(88.8));
  let n = round(a * 1.44269504088896341);
  let r = (a - n * 0.693359375) + n * 2.12194440e-4;
  var p = vec4<f32>(1.9875691500e-4);
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  let whole = vec4<i32>(n);
  let half = whole / 2;
  let y = ldexp(ldexp(p * r * r + r + 1.0, half), whole - half);
  return select(select(y, vec4<f32>(inf()), x > vec4<f32>(88.722839)), x, is_nan4(x));
}
`,
    needs: ['inf', 'is_nan4'],
  },
  exp1: { code: 'fn exp1(x: f32) -> f32 { return exp14(vec4<f32>(x)).x; }\n', needs: ['exp14'] },
  // For halves: the driver's own, whose error grows with |x|, but to no more than 1e-5 of it.
  exp_half4: {
    code: `fn exp_half4(x: vec4<f32>) -> vec4<f32> {
  let y = exp(clamp(x, vec4<f32>(-87.0), vec4<f32>(88.0)));
  return select(select(y, vec4<f32>(inf()), x > vec4<f32>(88.722839)), x, is_nan4(x));
}
`,
    needs: ['inf', 'is_nan4'],
  },
  exp_half: { code: 'fn exp_half(x: f32) -> f32 { return exp_half4(vec4<f32>(x)).x; }\n', needs: ['exp_half4'] },
  // WGSL's log is undefined for 0 and below, and drivers give what they like.
  log14: {
    code: `fn log14(x: vec4<f32>) -> vec4<f32> {
  let y = select(log(x), x, is_nan4(x) | is_posinf4(x));
  return select(select(y, vec4<f32>(nan()), x < vec4<f32>()), vec4<f32>(-inf()), x == vec4<f32>());
}
`,
    needs: ['inf', 'nan', 'is_nan4', 'is_posinf4'],
  },
  log1: { code: 'fn log1(x: f32) -> f32 { return log14(vec4<f32>(x)).x; }\n', needs: ['log14'] },
  // 0 in place of what is not finite: what may be taken off infinities without making NaN of them.
  finite1: { code: 'fn finite1(x: f32) -> f32 { return select(0.0, x, (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u); }\n', needs: [] },
  finite14: { code: lanes('finite1', ['x'], 'f32', 'f32'), needs: ['finite1'] },
  // The sum of a row's exp(x - max). A row whose largest element is infinite has no softmax, and drivers differ in exp(NaN).
  softmax_sum: { code: 'fn softmax_sum(x: f32) -> f32 { return select(nan(), x, x > 0.0 && x < 3.0e38); }\n', needs: ['nan'] },
  softmax_sum4: { code: lanes('softmax_sum', ['x'], 'f32', 'f32'), needs: ['softmax_sum'] },
  // WGSL bounds the error of sin and cos by 2⁻¹¹ within ±π, and by nothing beyond; positions and time steps are in thousands. This is
  // Cephes' sinf: π/2 in three parts reduces the range (error below 10⁻⁶ as far as ±10⁵); what is further out is the driver's.
  quarters4: {
    code: `fn quarters4(x: vec4<f32>, first: i32) -> vec4<f32> {
  let n = round(x * 0.63661977236758134);
  let r = ((x - n * 1.5703125) - n * 4.837512969970703125e-4) - n * 7.54978995489188216e-8;
  let s = r * r;
  let sine = ((-1.9515295891e-4 * s + 8.3321608736e-3) * s - 1.6666654611e-1) * s * r + r;
  let cosine = ((2.443315711809948e-5 * s - 1.388731625493765e-3) * s + 4.166664568298827e-2) * s * s - 0.5 * s + 1.0;
  let quarter = vec4<i32>(n) + first;
  let y = select(sine, cosine, (quarter & vec4<i32>(1)) == vec4<i32>(1));
  let outside = (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7f800000u);
  return select(select(y, -y, (quarter & vec4<i32>(2)) == vec4<i32>(2)), vec4<f32>(nan()), outside);
}
`,
    needs: ['nan'],
  },
  sin14: { code: 'fn sin14(x: vec4<f32>) -> vec4<f32> { return select(quarters4(x, 0i), sin(x), abs(x) > vec4<f32>(1e5)); }\n', needs: ['quarters4'] },
  sin1: { code: 'fn sin1(x: f32) -> f32 { return sin14(vec4<f32>(x)).x; }\n', needs: ['sin14'] },
  cos14: { code: 'fn cos14(x: vec4<f32>) -> vec4<f32> { return select(quarters4(x, 1i), cos(x), abs(x) > vec4<f32>(1e5)); }\n', needs: ['quarters4'] },
  cos1: { code: 'fn cos1(x: f32) -> f32 { return cos14(vec4<f32>(x)).x; }\n', needs: ['cos14'] },
  tan14: { code: 'fn tan14(x: vec4<f32>) -> vec4<f32> { return sin14(x) / cos14(x); }\n', needs: ['sin14', 'cos14'] },
  tan1: { code: 'fn tan1(x: f32) -> f32 { return tan14(vec4<f32>(x)).x; }\n', needs: ['tan14'] },
  // WGSL's pow is undefined for negative bases; C's gives a value for whole exponents and NaN otherwise.
  pow1: {
    code: `fn pow1(x: f32, y: f32) -> f32 {
  if (y == 0.0 || x == 1.0) { return 1.0; }
  if (x == 0.0) {
    let odd = y == trunc(y) && abs(y - 2.0 * trunc(y * 0.5)) == 1.0;
    if (y > 0.0) { return select(0.0, x, odd); }
    return select(inf(), -inf(), odd && bitcast<u32>(x) != 0u);
  }
  let magnitude = pow(abs(x), y);
  if (x > 0.0) { return magnitude; }
  if (y != trunc(y)) { return nan(); }
  return select(magnitude, -magnitude, abs(y - 2.0 * trunc(y * 0.5)) == 1.0);
}
`,
    needs: ['inf', 'nan'],
  },
  pow14: { code: lanes('pow1', ['x', 'y'], 'f32', 'f32'), needs: ['pow1'] },
  ipow: {
    code: `fn ipow(x: i32, y: i32) -> i32 {
  var base = x;
  var exponent = y;
  if (exponent < 0) { return select(0, select(x, 1, (exponent & 1) == 0), x == 1 || x == -1); }
  var result = 1i;
  while (exponent > 0) {
    if ((exponent & 1) == 1) { result *= base; }
    base *= base;
    exponent >>= 1u;
  }
  return result;
}
`,
    needs: [],
  },
  ipow4: { code: lanes('ipow', ['x', 'y'], 'i32', 'i32'), needs: ['ipow'] },
  // Not WGSL's %: Vulkan leaves the remainder of negative numbers undefined, and Dawn's remedy is off (dawn.ts).
  irem: { code: 'fn irem(x: i32, y: i32) -> i32 { return x - x / y * y; }\n', needs: [] },
  irem4: { code: lanes('irem', ['x', 'y'], 'i32', 'i32'), needs: ['irem'] },
  // Mod with fmod = 0: the result has the divisor's sign.
  imod: { code: 'fn imod(x: i32, y: i32) -> i32 { let r = irem(x, y); return select(r, r + y, r != 0 && ((r < 0) != (y < 0))); }\n', needs: ['irem'] },
  imod4: { code: lanes('imod', ['x', 'y'], 'i32', 'i32'), needs: ['imod'] },
  // WGSL lets a quotient be 2.5 ULP off, and drivers use it: 49 · (1/49) is below 1, and what is rounded next becomes 0. What the quotient leaves of
  // the dividend corrects it to the nearest float, where all three are normal numbers. That rest is counted in integers, of which 32 bits hold what is
  // so small: NVIDIA's compiler takes differences of products of floats for what they are in algebra.
  quotient14: {
    code: `fn quotient14(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
  let q = a / b;
  let exponents = vec4<u32>(255u);
  let exponent_a = (bitcast<vec4<u32>>(a) >> vec4<u32>(23u)) & exponents;
  let exponent_b = (bitcast<vec4<u32>>(b) >> vec4<u32>(23u)) & exponents;
  let exponent_q = (bitcast<vec4<u32>>(q) >> vec4<u32>(23u)) & exponents;
  let whole_a = (bitcast<vec4<u32>>(a) & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
  let whole_b = (bitcast<vec4<u32>>(b) & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
  let whole_q = (bitcast<vec4<u32>>(q) & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
  let places = (exponent_a + vec4<u32>(150u) - exponent_b - exponent_q) & vec4<u32>(31u);
  let rest = bitcast<vec4<i32>>((whole_a << places) - whole_q * whole_b);
  let unit = bitcast<vec4<f32>>((bitcast<vec4<u32>>(q) & vec4<u32>(0x80000000u)) | ((exponent_q - vec4<u32>(23u)) << vec4<u32>(23u)));
  let normal = ((exponent_a - vec4<u32>(1u)) < vec4<u32>(254u)) & ((exponent_b - vec4<u32>(1u)) < vec4<u32>(254u)) & ((exponent_q - vec4<u32>(24u)) < vec4<u32>(231u));
  return select(q, q + vec4<f32>(rest) / vec4<f32>(whole_b) * unit, normal);
}
`,
    needs: [],
  },
  quotient1: { code: 'fn quotient1(a: f32, b: f32) -> f32 { return quotient14(vec4<f32>(a), vec4<f32>(b)).x; }\n', needs: ['quotient14'] },
  // C's fmod: exact, and with the dividend's sign, by long division in integers of 15 places a turn. WGSL's % comes from a quotient that may be off by
  // one. Of a divisor that is no normal number nothing is left.
  cfmod: {
    code: `fn cfmod(x: f32, y: f32) -> f32 {
  let divisor = abs(y);
  var rest = abs(x);
  let exponent_y = bitcast<u32>(divisor) >> 23u;
  let whole_y = (bitcast<u32>(divisor) & 0x7fffffu) | 0x800000u;
  let defined = exponent_y > 0u && !is_nan(y) && !is_nan(x) && !is_posinf(rest);
  for (var turn = 0u; turn < 18u && defined && rest >= divisor; turn++) {
    let exponent = bitcast<u32>(rest) >> 23u;
    let more = max(exponent, exponent_y + 15u) - exponent_y - 15u;
    let scaled = bitcast<f32>(bitcast<u32>(divisor) + (more << 23u));
    let q = rest / scaled;
    let whole = (bitcast<u32>(rest) & 0x7fffffu) | 0x800000u;
    var left = bitcast<i32>((whole << (exponent - exponent_y - more)) - u32(q) * whole_y);
    left = select(left, left + i32(whole_y), left < 0);
    left = select(left, left - i32(whole_y), left >= i32(whole_y));
    rest = f32(left) * 1.1920928955078125e-7 * bitcast<f32>((exponent_y + more) << 23u);
  }
  let signed = bitcast<f32>(bitcast<u32>(rest) | (bitcast<u32>(x) & 0x80000000u));
  return select(nan(), signed, defined);
}
`,
    needs: ['is_nan', 'is_posinf', 'nan'],
  },
  cfmod4: { code: lanes('cfmod', ['x', 'y'], 'f32', 'f32'), needs: ['cfmod'] },
  // NumPy's mod: the remainder has the divisor's sign.
  fmodf: { code: 'fn fmodf(x: f32, y: f32) -> f32 { let r = cfmod(x, y); return select(r, r + y, r != 0.0 && ((r < 0.0) != (y < 0.0))); }\n', needs: ['cfmod'] },
  fmodf4: { code: lanes('fmodf', ['x', 'y'], 'f32', 'f32'), needs: ['fmodf'] },
};
