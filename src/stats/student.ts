/**
 * Student's t distribution (Student, Biometrika 6(1), 1908), by the regularized incomplete beta function: its continued
 * fraction is DLMF 8.17.22, evaluated by Lentz's method as Thompson and Barnett give it (J. Comput. Phys. 64, 1986).
 */

/** P(T > t) for `degrees` of freedom, above 0; Infinity is the normal distribution. */
export function studentTail(t: number, degrees: number): number {
  if (!(degrees > 0)) throw new RangeError(`degrees of freedom are above 0, not ${degrees}`);
  if (t < 0) return 1 - studentTail(-t, degrees);
  if (t === Infinity) return 0;
  if (degrees > 1e7) return normalTail(t);
  return incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2;
}

/** The t that is exceeded with probability `tail`, in (0, 0.5]. */
export function studentQuantile(tail: number, degrees: number): number {
  if (!(tail > 0 && tail <= 0.5)) throw new RangeError(`a tail is in (0, 0.5], not ${tail}`);
  let high = 1;
  while (studentTail(high, degrees) > tail && high < 1e150) high *= 2;
  let low = 0;
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (studentTail(middle, degrees) > tail) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(Z > z) of the standard normal distribution. */
export function normalTail(z: number): number {
  if (z < 0) return 1 - normalTail(-z);
  if (z < 2) return 0.5 - normalBody(z);
  // The continued fraction of Mills' ratio (Laplace); 60 levels are exact to rounding from z = 2 on.
  let fraction = 0;
  for (let k = 60; k > 0; k--) fraction = k / (z + fraction);
  return Math.exp((-z * z) / 2) / (Math.sqrt(2 * Math.PI) * (z + fraction));
}

/** P(0 < Z < z), by the series of all positive terms (Marsaglia, J. Stat. Software 11(4), 2004). */
function normalBody(z: number): number {
  let term = z;
  let sum = z;
  for (let k = 3; term > 1e-18; k += 2) {
    term *= (z * z) / k;
    sum += term;
  }
  return (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

/** I_x(a, b). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  // The fraction converges fast on one side of the mean only.
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(x, a, b)) / a : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

function betaFraction(x: number, a: number, b: number): number {
  const tiny = 1e-300;
  const nonZero = (value: number): number => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / nonZero(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonZero(1 + even * d);
    c = nonZero(1 + even / c);
    fraction *= c * d;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonZero(1 + odd * d);
    c = nonZero(1 + odd / c);
    const change = c * d;
    fraction *= change;
    if (Math.abs(change - 1) < 1e-15) return fraction;
  }
  return fraction;
}

/** ln Γ(x), x > 0: Stirling's series with its first terms (DLMF 5.11.1), shifted to where it is exact to rounding. */
function logGamma(x: number): number {
  let shift = 0;
  let y = x;
  for (; y < 15; y++) shift += Math.log(y);
  const inverse = 1 / (y * y);
  const series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / y;
  return (y - 0.5) * Math.log(y) - y + 0.5 * Math.log(2 * Math.PI) + series - shift;
}
