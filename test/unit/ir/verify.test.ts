import { describe, expect, it } from 'vitest';
import type { AnyNode, Graph } from '../../../src/ir/graph.ts';
import { fromNumbers, type TensorType } from '../../../src/ir/tensor.ts';
import { graphProblems, verifyGraph } from '../../../src/ir/verify.ts';
import { OP_RULES } from '../../../src/ops/builder.ts';

const F32 = (...dims: number[]): TensorType => ({ dtype: 'float32', dims });
const relu = (name: string, from: string, to: string): AnyNode => ({
  op: 'Relu', name, inputs: [from], outputs: [to], attrs: {}, origins: [name],
});

function graph(changes: Partial<Graph> = {}): Graph {
  return {
    name: 'g',
    inputs: ['x'],
    outputs: ['z'],
    types: new Map([['x', F32(2)], ['y', F32(2)], ['z', F32(2)]]),
    constants: new Map(),
    nodes: [relu('a', 'x', 'y'), relu('b', 'y', 'z')],
    ...changes,
  };
}

describe('verifyGraph', () => {
  it('accepts a graph that is right', () => {
    expect(() => verifyGraph(graph(), { stage: 'imported', rules: OP_RULES })).not.toThrow();
  });

  it.each<[string, Graph, RegExp]>([
    ['order', graph({ nodes: [relu('b', 'y', 'z'), relu('a', 'x', 'y')] }), /reads 'y', which nothing before it defines/],
    ['single assignment', graph({ nodes: [relu('a', 'x', 'y'), relu('b', 'y', 'z'), relu('c', 'x', 'z')] }), /'z', which is defined already/],
    ['node names', graph({ nodes: [relu('a', 'x', 'y'), relu('a', 'y', 'z')] }), /has the name of another node/],
    ['outputs', graph({ outputs: ['w'] }), /output 'w' is not defined/],
    ['types', graph({ types: new Map([['x', F32(2)], ['y', F32(2)]]) }), /'z' has no type/],
    ['inference', graph({ types: new Map([['x', F32(2)], ['y', F32(3)], ['z', F32(2)]]) }), /declares 'y' float32\[3\] but gives float32\[2\]/],
    ['absent inputs', graph({ nodes: [{ ...relu('a', 'x', 'y'), inputs: ['x', ''] }, relu('b', 'y', 'z')] }), /ends in an absent input/],
    ['arity', graph({ nodes: [{ ...relu('a', 'x', 'y'), inputs: ['x', 'x'] }, relu('b', 'y', 'z')] }), /has 2 inputs, not 1 to 1/],
    ['forbidden inputs', graph({ types: new Map([['x', { dtype: 'bool', dims: [2] }], ['y', F32(2)], ['z', F32(2)]]) }), /Relu 'a'/],
    [
      'constants',
      graph({ constants: new Map([['c', { ...F32(2), data: new Uint8Array(4) }]]), types: new Map([...graph().types, ['c', F32(2)]]) }),
      /constant 'c' is float32\[2\] but holds 4 bytes/,
    ],
    [
      'constant types',
      graph({ constants: new Map([['c', fromNumbers('float32', [1], [1])]]), types: new Map([...graph().types, ['c', F32(2)]]) }),
      /constant 'c' is float32\[1\] but declared float32\[2\]/,
    ],
  ])('reports a fault of %s', (_, broken, message) => {
    expect(graphProblems(broken, { rules: OP_RULES }).join('\n')).toMatch(message);
    expect(() => verifyGraph(broken, { rules: OP_RULES })).toThrow(message);
  });

  it('allows internal ops only for webgpu', () => {
    const fused: AnyNode = {
      op: 'FusedElementwise', name: 'a', inputs: ['x'], outputs: ['z'], origins: ['a'],
      attrs: { exprs: [{ kind: 'unary', fn: 'exp', x: { kind: 'input', index: 0, dtype: 'float32' } }] },
    };
    expect(graphProblems(graph({ nodes: [fused] }), { stage: 'webgpu', rules: OP_RULES })).toEqual([]);
    for (const stage of ['imported', 'onnx'] as const) {
      expect(graphProblems(graph({ nodes: [fused] }), { stage }).join()).toContain(`not legal at stage ${stage}`);
    }
  });
});
