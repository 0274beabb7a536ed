/**
 * Random graphs: whatever the pipeline makes of them computes the same.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Graph, ValueId } from '../../../src/ir/graph.ts';
import type { OpKind } from '../../../src/ir/ops.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { expectSame, optimize } from '../../helpers/passes.ts';
import { F32 } from '../../helpers/rules.ts';

const DIMS = [[2, 4, 3, 3], [1, 4, 3, 3], [4, 1, 1], [3], []] as const;
const UNARY = ['Relu', 'Sigmoid', 'Tanh', 'Neg', 'Identity', 'Softplus', 'HardSwish', 'Abs'] as const;
const BINARY = ['Add', 'Sub', 'Mul', 'Max', 'Min'] as const;

interface Step {
  readonly op: (typeof UNARY)[number] | (typeof BINARY)[number] | 'Conv' | 'BatchNormalization' | 'Transpose' | 'Flatten' | 'constant';
  readonly a: number;
  readonly b: number;
}

const STEPS = fc.array(
  fc.record<Step>({
    op: fc.constantFrom(...UNARY, ...BINARY, ...BINARY, 'Conv', 'Conv', 'BatchNormalization', 'Transpose', 'Flatten', 'constant'),
    a: fc.nat(),
    b: fc.nat(),
  }),
  { minLength: 1, maxLength: 14 },
);

function build(steps: readonly Step[], outputs: readonly number[]): Graph {
  const b = newGraphBuilder('random');
  const values: ValueId[] = DIMS.map((dims, i) => b.input(`x${i}`, F32(...dims)));
  let seed = 0;
  const weights = (...dims: number[]): ValueId => {
    const count = dims.reduce((x, y) => x * y, 1);
    return b.constant(fromNumbers('float32', dims, Array.from({ length: count }, () => Math.cos(++seed))));
  };
  for (const { op, a, b: other } of steps) {
    const pick = (index: number): ValueId => values[index % values.length]!;
    const images = values.filter((id) => b.type(id).dims.length === 4 && b.type(id).dims[1] === 4);
    const image = images[a % images.length]!;
    switch (op) {
      case 'Conv':
        values.push(b.node('Conv', [image, weights(4, 4, 1, 1)], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] }));
        break;
      case 'BatchNormalization': {
        const positive = b.node('Exp', [weights(4)], {});
        values.push(b.node('BatchNormalization', [image, weights(4), weights(4), weights(4), positive], { epsilon: 1e-3, momentum: 0.9, training_mode: 0 }));
        break;
      }
      case 'Transpose':
        values.push(b.node('Transpose', [image], { perm: other % 2 ? [0, 1, 3, 2] : [0, 2, 3, 1] }));
        break;
      case 'Flatten':
        values.push(b.node('Flatten', [pick(a)], { axis: 0 }));
        break;
      case 'constant':
        values.push(weights(...DIMS[a % DIMS.length]!));
        break;
      default: {
        const isUnary = (UNARY as readonly OpKind[]).includes(op);
        const inputs = isUnary ? [pick(a)] : [pick(a), pick(other)];
        if (!isUnary && !canBroadcast(b.type(inputs[0]!).dims, b.type(inputs[1]!).dims)) continue;
        values.push(b.node(op, inputs, {}));
      }
    }
  }
  const made = values.slice(DIMS.length).filter((id) => b.finish([]).constants.get(id) === undefined);
  const chosen = new Set([made.at(-1), ...outputs.map((index) => made[index % made.length])].filter((id) => id !== undefined));
  return b.finish(chosen.size > 0 ? [...chosen] : [b.node('Relu', ['x0'], {})]);
}

function canBroadcast(a: readonly number[], b: readonly number[]): boolean {
  return a.every((_, i) => {
    const [x, y] = [a.at(-1 - i)!, b.at(-1 - i) ?? 1];
    return x === y || x === 1 || y === 1;
  });
}

it.each(['onnx', 'webgpu'] as const)('pipeline for %s on random graphs', { timeout: 120_000 }, async (target) => {
  await fc.assert(
    fc.asyncProperty(STEPS, fc.array(fc.nat(), { maxLength: 2 }), async (steps, outputs) => {
      const graph = build(steps, outputs);
      const { graph: optimized } = await optimize(graph, target);
      expect(optimized.nodes.length).toBeLessThanOrEqual(graph.nodes.length + (target === 'webgpu' ? steps.length : 0));
      await expectSame(graph, optimized);
    }),
    { seed: 20, numRuns: 50 },
  );
});
