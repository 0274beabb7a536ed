/** LRN: every element divided by a power of the squares around it, over neighbouring channels. */
import type { Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';

const lrn: Lowering<'LRN'> = {
  lower(node, context) {
    const x = context.tensor(node.inputs[0]!);
    const { alpha, beta, bias, size } = node.attrs;
    const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
    lowerElements(context, node.outputs[0]!, {
      label: 'LRN',
      inputs: { x },
      layout: x.layout,
      body({ block, at, inputs }) {
        const sum = block.var('sum', '0.0f');
        const end = `min(${at[1]} + ${after + 1}u, ${x.dims[1]}u)`;
        block.for('k', `max(${at[1]}, ${before}u) - ${before}u`, end, '1u', (loop) => {
          loop.let('v', inputs.x.load(at.map((c, axis) => (axis === 1 ? 'k' : c))));
          loop.line(`${sum} += v * v`);
        });
        return `${inputs.x.load(at)} / pow(f32(${bias}) + f32(${alpha / size}) * ${sum}, f32(${beta}))`;
      },
    });
  },
};

export const LRN_LOWERINGS: LoweringTable = { LRN: lrn };
