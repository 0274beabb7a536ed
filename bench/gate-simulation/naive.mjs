/** Rules that people use, so that they can be tried on the data that the gate is tried on. */
import { normalTail, studentTail } from '../../dist/src/stats/student.js';

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** What people use, on the pooled samples: +1 slower, −1 faster, 0 neither. */
export const NAIVE = {
  'mean > 1.05': (before, after) => {
    const ratio = mean(after) / mean(before);
    return ratio > 1.05 ? 1 : ratio < 0.95 ? -1 : 0;
  },
  't-test': (before, after) => {
    const [a, b] = [before, after].map((values) => {
      const centre = mean(values);
      return { centre, error: values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1) / values.length };
    });
    const t = (b.centre - a.centre) / Math.sqrt(a.error + b.error);
    return studentTail(Math.abs(t), before.length + after.length - 2) <= 0.025 ? Math.sign(t) : 0;
  },
  'Mann-Whitney': (before, after) => {
    const all = Float64Array.from([...before, ...after]).sort();
    const [n, m] = [before.length, after.length];
    const rankOf = new Map();
    for (let i = 0; i < all.length; i++) rankOf.set(all[i], i + 1);
    let ranks = 0;
    for (const value of after) ranks += rankOf.get(value);
    const z = (ranks - (m * (m + 1)) / 2 - (n * m) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12);
    return normalTail(Math.abs(z)) <= 0.025 ? Math.sign(z) : 0;
  },
};
