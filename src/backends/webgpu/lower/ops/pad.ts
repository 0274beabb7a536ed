/** Pad: every output element finds its source, or is the constant. Negative pads crop. */
import { normalizeAxis } from '../../../../ops/shapes.ts';
import type { OpAttrs } from '../../../../ir/ops.ts';
import { registerType } from '../../wgsl/access.ts';
import type { Block } from '../../wgsl/module.ts';
import type { Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import { mustBeConstant } from '../support.ts';

interface PaddedAxis {
  readonly axis: number;
  /** The output's coordinate, as u32. */
  readonly c: string;
  /** Elements before the source's first, at least 0. */
  readonly begin: number;
  readonly extent: number;
}

/** The source's coordinate along a padded axis, as u32. */
function sourceAt(block: Block, mode: Exclude<OpAttrs['Pad']['mode'], 'constant'>, { axis, c, begin, extent }: PaddedAxis): string {
  // Counted from a whole number of periods before the source: Vulkan leaves the remainder of a negative number undefined.
  const phase = (period: number): string => `(${c} + ${(period - (begin % period)) % period}u) % ${period}u`;
  switch (mode) {
    case 'edge':
      return `u32(clamp(i32(${c}) - ${begin}, 0, ${extent - 1}))`;
    case 'reflect': {
      if (extent === 1) return '0u';
      // A triangle wave.
      const period = 2 * (extent - 1);
      const at = block.let(`phase${axis}`, phase(period));
      return `min(${at}, ${period}u - ${at})`;
    }
    case 'wrap':
      return `(${phase(extent)})`;
    default:
      return mode satisfies never;
  }
}

const pad: Lowering<'Pad'> = {
  unsupported: (node, graph) => mustBeConstant(node, graph, { 1: 'pads', 3: 'axes' }),
  lower(node, context) {
    const { mode } = node.attrs;
    const data = context.source(node.inputs[0]!);
    const { dims } = data;
    const pads = context.ints(node.inputs[1]!)!;
    const axes = context.ints(node.inputs[3] ?? '') ?? dims.map((_, axis) => axis);
    const [begins, ends] = [dims.map(() => 0), dims.map(() => 0)];
    for (const [i, axis] of axes.entries()) {
      begins[normalizeAxis(axis, dims.length)] = pads[i]!;
      ends[normalizeAxis(axis, dims.length)] = pads[axes.length + i]!;
    }
    const filler = node.inputs[2] ? { filler: context.tensorIn(node.inputs[2], 'linear') } : {};
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'Pad',
      inputs: { data, ...filler },
      layout: data.layout,
      body({ block, at, inputs }) {
        const conditions: string[] = [];
        const source = at.map((c, axis) => {
          const [begin, end] = [begins[axis]!, ends[axis]!];
          if (begin === 0 && end === 0) return c;
          // What is cropped is gone before anything is padded.
          const first = Math.max(0, -begin);
          if (begin <= 0 && end <= 0) return `(${c} + ${first}u)`;
          const extent = Math.max(1, dims[axis]! - first - Math.max(0, -end));
          if (mode !== 'constant') return `(${sourceAt(block, mode, { axis, c, begin: Math.max(0, begin), extent })} + ${first}u)`;
          const place = block.let(`p${axis}`, `i32(${c}) - ${Math.max(0, begin)}`);
          conditions.push(`${place} >= 0 && ${place} < ${extent}`);
          return `(u32(clamp(${place}, 0, ${extent - 1})) + ${first}u)`;
        });
        const constant = inputs['filler']?.loadFlat('0u') ?? `${registerType(data.dtype)}()`;
        if (conditions.length === 0) return inputs['data']!.load(source);
        const value = block.var('value', constant);
        if (!dims.includes(0)) block.if(conditions.join(' && '), (then) => then.line(`${value} = ${inputs['data']!.load(source)}`));
        return value;
      },
    });
  },
};

export const PAD_LOWERINGS: LoweringTable = { Pad: pad };
