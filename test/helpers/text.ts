/** Text as nobody would type it. */
import fc from 'fast-check';

/** Any UTF-16 code units: controls, lone surrogates, private use. */
export const anyText = fc.string({ unit: fc.nat(0xffff).map((unit) => String.fromCharCode(unit)) });
