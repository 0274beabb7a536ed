/** Rooflines: floors by hand, sums, orders, and the three formats. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DevicePeaks } from '../../../src/backends/backend.ts';
import { BOUNDS, ordered, type ProfiledLayer, ROOFLINE_ORDERS, roofline, type RooflineFormat } from '../../../src/report/roofline.ts';
import { renderRoofline } from '../../../src/report/roofline-text.ts';

const peaks: DevicePeaks = { bytesPerSecond: 1e12, operationsPerSecond: { float32: 50e12, float16: 400e12 }, launchNs: 2000, quantumNs: 32 };

const layer = (name: string, changes: Partial<ProfiledLayer> = {}): ProfiledLayer => ({ name, kind: 'FusedConv', precision: 'float32', flops: 0, bytes: 0, durationNs: 10_000, ...changes });

/** 5 µs of memory; 20 µs of arithmetic in f32 and 2.5 in f16; 0.1 µs, which is less than an empty kernel. */
const layers = [
  layer('copy', { bytes: 5e6, durationNs: 10_000 }),
  layer('conv, wide', { flops: 1e9, bytes: 1e6, durationNs: 40_000, tactic: '64x64' }),
  layer('conv half', { flops: 1e9, bytes: 1e6, precision: 'float16', durationNs: 5000 }),
  layer('small', { flops: 1e3, bytes: 1e5, durationNs: 2500 }),
];

describe('roofline', () => {
  it('gives each layer the longer of its arithmetic and its traffic', () => {
    const { rows, kernelNs, floorNs, residualNs, boundNs } = roofline(layers, 60_000, peaks);
    expect(rows.map(({ floor }) => floor)).toEqual([
      { ns: 5000, bound: 'memory', share: 0.5 },
      { ns: 20_000, bound: 'compute', share: 0.5 },
      { ns: 2500, bound: 'compute', share: 0.5 },
      { ns: 100, bound: 'latency', share: 0.04 },
    ]);
    expect({ kernelNs, floorNs, residualNs, boundNs }).toEqual({ kernelNs: 57_500, floorNs: 27_600, residualNs: 2500, boundNs: { memory: 10_000, compute: 45_000, latency: 2500 } });
  });

  it('computes in f32 what the device has no faster arithmetic for', () => {
    const { rows } = roofline([layer('int8', { precision: 'int8', flops: 1e9 })], 0, peaks);
    expect(rows[0]!.floor!.ns).toBe(20_000);
  });

  it('has no floors without peaks', () => {
    const { rows, floorNs } = roofline(layers, 60_000, undefined);
    expect(floorNs).toBeUndefined();
    expect(rows.every(({ floor }) => floor === undefined)).toBe(true);
  });

  it('accounts for every nanosecond', () => {
    const anyLayer = fc.record({
      name: fc.string(),
      kind: fc.constant('Conv'),
      precision: fc.constantFrom('float32', 'float16', 'int8', 'int64') as fc.Arbitrary<ProfiledLayer['precision']>,
      flops: fc.nat(),
      bytes: fc.nat(),
      durationNs: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(anyLayer), fc.nat(), fc.constantFrom(...ROOFLINE_ORDERS), fc.nat(20), (some, wallNs, order, top) => {
        const found = roofline(some, wallNs, peaks);
        expect(found.kernelNs + found.residualNs).toBe(wallNs);
        expect(BOUNDS.reduce((sum, bound) => sum + found.boundNs![bound], 0)).toBe(found.kernelNs);
        expect(new Set(ordered(found, order))).toEqual(new Set(found.rows));
        expect(ordered(found, order, top)).toEqual(ordered(found, order).slice(0, top));
      }),
      { seed: 1, numRuns: 100 },
    );
  });

  it('sorts', () => {
    const found = roofline(layers, 60_000, peaks);
    const names = (order: (typeof ROOFLINE_ORDERS)[number], top?: number) => ordered(found, order, top).map(({ name }) => name);
    expect(names('time')).toEqual(['conv, wide', 'copy', 'conv half', 'small']);
    expect(names('share', 1)).toEqual(['small']);
    expect(names('bytes', 1)).toEqual(['copy']);
    expect(names('graph')).toEqual(layers.map(({ name }) => name));
  });
});

describe('a roofline as text', () => {
  const subject = { title: 'net.engine', device: 'a card', peaks, roofline: roofline(layers, 60_000, peaks) };
  const render = (format: RooflineFormat, top?: number) => renderRoofline(subject, { format, sort: 'time', top });

  it('is a table with sums', () => {
    expect(render('table', 2)).toMatchInlineSnapshot(`
      "net.engine on a card

      layer       kind       precision  tactic    µs  of all  MFLOP    MB  floor µs  reached  bound by
      ────────────────────────────────────────────────────────────────────────────────────────────────
      conv, wide  FusedConv  float32    64x64   40.0  69.6 %   1000  1.00      20.0   50.0 %  compute
      copy        FusedConv  float32    –       10.0  17.4 %      0  5.00      5.00   50.0 %  memory
      2 of 4 layers are shown.

      layers   57.5 µs together; one execution 60.0 µs by the wall clock: 2.50 µs are between and around them
      floor    27.6 µs, 48.0 % of the layers' time
      bound    memory 17.4 %, compute 78.3 %, latency 4.3 % of the layers' time
      device   measured: copies 1000 GB/s, float32 50000 Gop/s, float16 400000 Gop/s, an empty kernel 2.00 µs; the clock steps by 32.0 ns"
    `);
  });

  it('is markdown, its text escaped', () => {
    expect(render('markdown', 1)).toMatchInlineSnapshot(`
      "### net.engine on a card

      | layer | kind | precision | tactic | µs | of all | MFLOP | MB | floor µs | reached | bound by |
      | :-- | :-- | :-- | :-- | --: | --: | --: | --: | --: | --: | :-- |
      | conv, wide | FusedConv | float32 | 64x64 | 40.0 | 69.6 % | 1000 | 1.00 | 20.0 | 50.0 % | compute |

      - 1 of 4 layers are shown.
      - layers   57.5 µs together; one execution 60.0 µs by the wall clock: 2.50 µs are between and around them
      - floor    27.6 µs, 48.0 % of the layers' time
      - bound    memory 17.4 %, compute 78.3 %, latency 4.3 % of the layers' time
      - device   measured: copies 1000 GB/s, float32 50000 Gop/s, float16 400000 Gop/s, an empty kernel 2.00 µs; the clock steps by 32.0 ns"
    `);
  });

  it('is CSV with every digit', () => {
    expect(render('csv', 1)).toBe('layer,kind,precision,tactic,duration_ns,time_share,flops,bytes,floor_ns,floor_share,bound\r\n"conv, wide",FusedConv,float32,64x64,40000,0.6956521739130435,1000000000,1000000,20000,0.5,compute');
  });

  it('says when layers timed by themselves take longer than together', () => {
    const text = renderRoofline({ ...subject, roofline: roofline(layers, 50_000, peaks) }, { format: 'table', sort: 'time', top: undefined });
    expect(text).toContain('timing each by itself cost 7.50 µs more than running them together');
  });
});
