import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GraphEditor, prune, topologicalOrder, unionOrigins } from '../../../src/ir/edit.ts';
import type { AnyNode, Graph } from '../../../src/ir/graph.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { verifyGraph } from '../../../src/ir/verify.ts';
import { newGraphBuilder, OP_RULES } from '../../../src/ops/builder.ts';

const F32 = (...dims: number[]) => ({ dtype: 'float32', dims }) as const;

/** y = relu(exp(x)), z = neg(exp(x)) */
function fork(): Graph {
  const b = newGraphBuilder('fork');
  const x = b.input('x', F32(2));
  const e = b.node('Exp', [x], {}, { name: 'exp', outputs: ['e'] });
  const y = b.node('Relu', [e], {}, { name: 'relu', outputs: ['y'] });
  const z = b.node('Neg', [e], {}, { name: 'neg', outputs: ['z'] });
  return b.finish([y, z]);
}

const summary = (graph: Graph): string[] => graph.nodes.map((node) => `${node.outputs.join()}=${node.op}(${node.inputs.join()})`);

describe('GraphEditor', () => {
  it('gives back the same graph where nothing changed', () => {
    const graph = fork();
    expect(new GraphEditor(graph).finish()).toBe(graph);
  });

  it('knows producers, consumers and the only consumer', () => {
    const edit = new GraphEditor(fork());
    expect(edit.producer('e')!.name).toBe('exp');
    expect(edit.producer('x')).toBeUndefined();
    expect(edit.consumers('e').map((node) => node.name)).toEqual(['relu', 'neg']);
    expect(edit.onlyConsumer('e')).toBeUndefined();
    expect(edit.onlyConsumer('x')!.name).toBe('exp');
    expect(edit.onlyConsumer('y')).toBeUndefined();
  });

  it('puts another node in place and drops what only the old one needed', () => {
    const graph = fork();
    const edit = new GraphEditor(graph);
    edit.replaceNode(edit.node('neg')!, { op: 'Neg', inputs: ['x'], attrs: {}, origins: ['neg', 'exp'] });
    expect(edit.onlyConsumer('e')!.name).toBe('relu');
    edit.replaceNode(edit.node('relu')!, { op: 'Abs', inputs: ['x'], attrs: {}, origins: ['relu'] });
    expect(edit.node('exp')).toBeUndefined();
    const result = edit.finish();
    expect(summary(result)).toEqual(['y=Abs(x)', 'z=Neg(x)']);
    expect(result.types.has('e')).toBe(false);
    expect(summary(graph)).toHaveLength(3);
  });

  it('repairs the order when a node reads one that stands later', () => {
    const edit = new GraphEditor(fork());
    edit.replaceNode(edit.node('relu')!, { op: 'Add', inputs: ['e', 'z'], attrs: {}, origins: ['relu'] });
    const result = edit.finish();
    expect(summary(result)).toEqual(['e=Exp(x)', 'z=Neg(e)', 'y=Add(e,z)']);
    verifyGraph(result, { rules: OP_RULES });
  });

  it('replaces a value for its readers', () => {
    const edit = new GraphEditor(fork());
    expect(edit.replaceValue('e', 'x')).toBe('x');
    expect(summary(edit.finish())).toEqual(['y=Relu(x)', 'z=Neg(x)']);
  });

  it('hands the name of a graph output on to the value that takes its place', () => {
    const edit = new GraphEditor(fork());
    expect(edit.canReplaceValue('y', 'e')).toBe(true);
    expect(edit.replaceValue('y', 'e')).toBe('y');
    const result = edit.finish();
    expect(summary(result)).toEqual(['y=Exp(x)', 'z=Neg(y)']);
    verifyGraph(result, { rules: OP_RULES });
  });

  it('refuses to lose the name of an output, or to change a type', () => {
    const edit = new GraphEditor(fork());
    expect(edit.canReplaceValue('y', 'x')).toBe(false);
    expect(edit.canReplaceValue('y', 'z')).toBe(false);
    const constant = edit.addConstant(fromNumbers('float32', [3], [1, 2, 3]), 'c');
    expect(edit.canReplaceValue('e', constant)).toBe(false);
    expect(() => edit.replaceValue('y', 'x')).toThrow("can't take the place");
  });

  it('adds nodes and constants under fresh names', () => {
    const edit = new GraphEditor(fork());
    const c = edit.addConstant(fromNumbers('float32', [], [2]), 'x');
    expect(c).toBe('x_1');
    const added = edit.add({ op: 'Mul', inputs: ['e', c], attrs: {}, origins: ['exp'], name: 'exp', type: F32(2) });
    expect(edit.producer(added)!.name).toBe('exp_1');
    edit.replaceNode(edit.node('neg')!, { op: 'Neg', inputs: [added, ''], attrs: {}, origins: ['neg'] });
    const result = edit.finish();
    verifyGraph(result, { rules: OP_RULES });
    expect(summary(result)).toEqual(['e=Exp(x)', 'y=Relu(e)', 'exp_1=Mul(e,x_1)', 'z=Neg(exp_1)']);
  });
});

describe('topologicalOrder', () => {
  const node = (name: string, inputs: string[]): AnyNode => ({ op: 'Sum', name, inputs, outputs: [name], attrs: {}, origins: [name] });

  it('throws on a cycle', () => {
    expect(() => topologicalOrder([node('a', ['b']), node('b', ['a'])], ['a'])).toThrow("cycle through Sum");
  });

  it('puts producers first, keeps what the outputs need and nothing else, whatever the order given', () => {
    const dag = fc.integer({ min: 1, max: 30 }).chain((count) =>
      fc.tuple(
        fc.tuple(...Array.from({ length: count }, (_, i) => fc.subarray(Array.from({ length: i }, (_, j) => `n${j}`)))),
        fc.shuffledSubarray(Array.from({ length: count }, (_, i) => i), { minLength: count, maxLength: count }),
        fc.subarray(Array.from({ length: count }, (_, i) => `n${i}`)),
      ),
    );
    fc.assert(
      fc.property(dag, ([inputs, order, outputs]) => {
        const nodes = order.map((i) => node(`n${i}`, inputs[i]!));
        const sorted = topologicalOrder(nodes, outputs);
        const seen = new Set<string>();
        for (const { name, inputs } of sorted) {
          expect(inputs.every((input) => seen.has(input))).toBe(true);
          seen.add(name);
        }
        const needed = new Set<string>();
        const visit = (name: string): void => {
          if (needed.has(name)) return;
          needed.add(name);
          for (const input of inputs[Number(name.slice(1))]!) visit(input);
        };
        outputs.forEach(visit);
        expect(seen).toEqual(needed);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it('is not limited by the depth of the graph', () => {
    const chain = Array.from({ length: 50_000 }, (_, i) => node(`n${i}`, i ? [`n${i - 1}`] : []));
    expect(topologicalOrder(chain.toReversed(), ['n49999'])).toHaveLength(50_000);
  });
});

it('prune drops nodes, constants and types that no output needs', () => {
  const b = newGraphBuilder('g');
  const x = b.input('x', F32(2));
  b.node('Add', [x, b.constant(fromNumbers('float32', [2], [1, 2]), 'c')], {});
  const pruned = prune(b.finish([b.node('Relu', [x], {}, { outputs: ['y'] })]));
  expect(summary(pruned)).toEqual(['y=Relu(x)']);
  expect([...pruned.types.keys()]).toEqual(['x', 'y']);
  expect(pruned.constants.size).toBe(0);
});

it('unionOrigins keeps the order and drops repetitions', () => {
  expect(unionOrigins({ origins: ['a', 'b'] }, { origins: ['b', 'c'] })).toEqual(['a', 'b', 'c']);
});
