/** Models by hand with graphs inside of nodes, and a detector. */
import onnxProto from 'onnx-proto';
import { floats, ints, node, value, type INode, type ModelParts } from './models.ts';

const { GRAPH } = onnxProto.onnx.AttributeProto.AttributeType;

export type Branch = NonNullable<NonNullable<INode['attribute']>[number]['g']>;

export const branch = (nodes: readonly INode[], outputs: readonly string[], initializers: Branch['initializer'] = []): Branch => ({
  name: 'branch', node: [...nodes], output: outputs.map((name) => ({ name })), initializer: initializers ?? [],
});

export const choose = (condition: string, outputs: string[], yes: Branch, no: Branch): INode => ({
  ...node('If', [condition], outputs),
  attribute: [{ name: 'then_branch', type: GRAPH, g: yes }, { name: 'else_branch', type: GRAPH, g: no }],
});

/** `inputs` of the loop: how often, whether at all, what is carried; of the body: the iteration, whether it goes on, what is carried. */
export const repeat = (inputs: string[], outputs: string[], bodyInputs: readonly string[], body: Branch): INode => ({
  ...node('Loop', inputs, outputs),
  attribute: [{ name: 'body', type: GRAPH, g: { ...body, input: bodyInputs.map((name) => ({ name })) } }],
});

/** `inputs` of the scan: what is carried, then what it runs over; so are those of the body, which are floats. */
export const scan = (inputs: string[], outputs: string[], attributes: Parameters<typeof node>[3], bodyInputs: readonly string[], body: Branch): INode => {
  const plain = node('Scan', inputs, outputs, attributes);
  const untyped = (name: string): NonNullable<Branch['input']>[number] => ({ name, type: { tensorType: { elemType: 1 } } });
  return { ...plain, attribute: [...(plain.attribute ?? []), { name: 'body', type: GRAPH, g: { ...body, input: bodyInputs.map(untyped) } }] };
};

/** Boxes picked by their scores: how many is for the data to decide. */
export const detector: ModelParts = {
  opset: 13,
  inputs: [value('x', 'float32', [1, 8, 4])],
  outputs: ['picked', 'scores', 'count'].map((name) => value(name, name === 'count' ? 'int64' : 'float32', [])),
  initializers: { half: floats([0.5], []), most: ints([Number.MAX_SAFE_INTEGER]), overlap: floats([0.3]), third: ints([2]), zero: ints([0], []) },
  nodes: [
    node('Mul', ['x', 'half'], ['boxes']),
    node('ReduceMax', ['boxes'], ['best'], { axes: [2], keepdims: 0 }),
    node('Unsqueeze', ['best', 'one'], ['scores']),
    node('Constant', [], ['one'], { value: ints([1]) }),
    node('NonMaxSuppression', ['boxes', 'scores', 'most', 'overlap'], ['chosen']),
    node('Gather', ['chosen', 'third'], ['column'], { axis: 1 }),
    node('Gather', ['boxes', 'column'], ['picked'], { axis: 1 }),
    node('Shape', ['column'], ['count']),
  ],
};
