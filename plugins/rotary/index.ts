/**
 * Rotary position embedding: x·cos + rotate(x)·sin, rotate(x) = (−x₂, x₁) over halves of the last axis (Su et al., "RoFormer", 2021;
 * the "half" form of LLaMA and GPT-NeoX). Exporters write it out in six ops; on webgpu one kernel takes their place.
 */
import { constant, defineOp, definePlugin, elementCount, named, op, value, type PatternMatch } from 'tsrt-bench';

const half = (name: string) => named(name, 'Slice', value('x'), constant(`${name}_starts`), constant(`${name}_ends`), constant(`${name}_axes`), constant(`${name}_steps`));

/** Whether a slice takes [from, to) of the last axis; an end beyond the axis is the axis' own. */
function takes(match: PatternMatch, name: string, from: number, to: number): boolean {
  const { dims } = match.type('x');
  const last = dims.length - 1;
  const size = dims[last]!;
  const only = (part: string): number => (match.numbers(`${name}_${part}`).length === 1 ? match.numbers(`${name}_${part}`)[0]! : Number.NaN);
  const position = (at: number): number => Math.min(at < 0 ? at + size : at, size);
  const axis = only('axes');
  return (axis === last || axis === -1) && only('steps') === 1 && position(only('starts')) === from && position(only('ends')) === to;
}

const rotary = defineOp({
  domain: 'tsrt',
  name: 'Rotary',
  description: 'rotary position embedding over halves of the last axis',
  dtypes: ['float32', 'float16'],
  attributes: {},
  inputs: [
    { name: 'x', dims: ['batch', 'heads', 'length', 'width'] },
    { name: 'cosines', dims: [1, 1, 'length', 'width'], values: [-1, 1] },
    { name: 'sines', dims: [1, 1, 'length', 'width'], values: [-1, 1] },
  ],
  outputs: ['y'],
  sizes: { batch: [0, 3], heads: [1, 4], length: [1, 9], pairs: [1, 9], width: ({ pairs }) => 2 * pairs! },
  infer: ({ inputs: [x] }) => [x!],
  reference({ inputs: [x, cosines, sines] }) {
    const width = x!.dims[3]!;
    const row = x!.dims[2]! * width;
    return [
      x!.values.map((v, i) => {
        const [at, d] = [i % row, i % width];
        const partner = d < width / 2 ? -x!.values[i + width / 2]! : x!.values[i - width / 2]!;
        return v * cosines!.values[at]! + partner * sines!.values[at]!;
      }),
    ];
  },
  decompose({ graph }) {
    const [x, cosines, sines] = graph.inputs as [string, string, string];
    const width = graph.type(x).dims[3]!;
    const int = (...values: number[]) => graph.constant('int64', [values.length], values);
    const part = (from: number, to: number) => graph.op('Slice', [x, int(from), int(to), int(3), int(1)]);
    const rotated = graph.op('Concat', [graph.op('Neg', [part(width / 2, width)]), part(0, width / 2)], { axis: 3 });
    return graph.op('Add', [graph.op('Mul', [x, cosines]), graph.op('Mul', [rotated, sines])]);
  },
  kernels: [
    {
      dtypes: ['float32', 'float16'],
      tiles: [{ block: 64 }, { block: 128 }, { block: 256 }],
      // One invocation per pair: each element of x is read once.
      emit({ inputs: [x], outputs: [y], tile }) {
        const width = x!.dims[3]!;
        const row = x!.dims[2]! * width;
        return {
          workgroupSize: tile['block']!,
          threads: elementCount(y!.dims) / 2,
          body: `
let first = (i / ${width / 2}u) * ${width}u + i % ${width / 2}u;
let second = first + ${width / 2}u;
let a = x[first];
let b = x[second];
y[first] = a * cosines[first % ${row}u] - b * sines[first % ${row}u];
y[second] = b * cosines[second % ${row}u] + a * sines[second % ${row}u];`,
        };
      },
    },
  ],
  patterns: [
    {
      // x·cos + concat(−x[d/2:], x[:d/2])·sin, as PyTorch's exporters write LLaMA's rotate_half
      name: 'rotate-half',
      match: op('Add', op('Mul', value('x'), value('cosines')), op('Mul', named('rotated', 'Concat', op('Neg', half('upper')), half('lower')), value('sines'))),
      inputs: ['x', 'cosines', 'sines'],
      attributes(match) {
        const { dims } = match.type('x');
        const width = dims.at(-1)!;
        const { axis } = match.attributes('rotated');
        const fits = dims.length === 4 && (axis === 3 || axis === -1) && takes(match, 'upper', width / 2, width) && takes(match, 'lower', 0, width / 2);
        return fits ? {} : undefined;
      },
    },
  ],
  tolerance: { float32: { ulps: 2, absolute: 2e-6 }, float16: { ulps: 2, absolute: 2e-3 } },
});

export default definePlugin({ name: 'rotary', version: '1.0.0', ops: [rotary] });
