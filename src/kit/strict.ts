/** What the kit hands to an op's code, so that slips of the pen are errors that say so. */
import { nearest } from '../nearest.ts';

/** A misspelt key is undefined in JavaScript, and NaN a line later: here it is an error that names the nearest. So is a change. */
export function strict<T extends object>(value: T, what: string): T {
  return new Proxy(value, {
    set(_, key) {
      throw new Error(`it changes the ${what} '${String(key)}', which is not its own`);
    },
    get(target, key) {
      if (typeof key === 'symbol' || key === 'toJSON' || key === 'then' || key in target) return Reflect.get(target, key) as unknown;
      const known = Object.keys(target);
      const guess = nearest(key, known);
      throw new Error(`there is no ${what} '${key}'${guess === undefined ? `; known: ${known.join(', ') || 'none'}` : `; did you mean '${guess}'?`}`);
    },
  });
}
