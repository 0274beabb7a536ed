/**
 * Pictures as bytes: the conversion from pixels to a network's numbers, put in front of it as ordinary nodes.
 *
 * The engine's binding then is uint8 [N, H, W, C], a quarter of what float32 takes on the way to the device, and no processor
 * normalizes anything. What fuses with the nodes is for the other passes and the backend to see. Prior art: TensorRT users who
 * add normalization to their networks; onnxruntime-extensions' pre-processing steps.
 */
import { freshName } from '../ir/build.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { typeOf } from '../ir/graph.ts';
import { byteDims, type PixelInput } from '../ir/pixels.ts';
import { type DType, fromNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';
import type { PassReport } from './pass.ts';

/** The name under which an engine's list of passes knows it. It changes bindings: nothing but its option switches it on or off. */
const INPUT_BYTES = 'input-bytes';

export interface WithBytes {
  readonly graph: Graph;
  /** Empty where nothing was to be done. */
  readonly reports: readonly PassReport[];
}

/** The graph with these inputs as bytes. They must be such that {@link pixelProblem} finds nothing. */
export function withBytes(graph: Graph, pixels: readonly PixelInput[]): WithBytes {
  if (pixels.length === 0) return { graph, reports: [] };
  const result = pixels.reduce(prepend, graph);
  return { graph: result, reports: [{ pass: INPUT_BYTES, nodesBefore: graph.nodes.length, nodesAfter: result.nodes.length, rewrites: { 'picture as bytes': pixels.length } }] };
}

/** x = (transpose(bytes) as float32) · scale + shift, in the input's own type. */
function prepend(graph: Graph, pixels: PixelInput): Graph {
  const { input, layout } = pixels;
  const wanted = typeOf(graph, input);
  const types = new Map(graph.types);
  const constants = new Map(graph.constants);
  const [values, names] = [new Set(types.keys()), new Set(graph.nodes.map(({ name }) => name))];
  const nodes: AnyNode[] = [];
  const node = (op: 'Transpose' | 'Cast' | 'Mul' | 'Add', what: string, inputs: readonly ValueId[], attrs: object, type: TensorType): ValueId => {
    const output = freshName(values, `${input}_${what}`);
    types.set(output, type);
    nodes.push({ op, name: freshName(names, `${input}_${what}`), inputs, outputs: [output], attrs, origins: [] } as unknown as AnyNode);
    return output;
  };
  const constant = (what: string, numbers: readonly number[]): ValueId => {
    const dims = layout === 'NCHW' ? [1, numbers.length, 1, 1] : [numbers.length];
    const tensor: Tensor = fromNumbers('float32', dims, numbers);
    const id = freshName(values, `${input}_${what}`);
    types.set(id, { dtype: 'float32', dims });
    constants.set(id, tensor);
    return id;
  };
  const of = (dtype: DType): TensorType => ({ dtype, dims: wanted.dims });
  const cast = (to: DType) => ({ to, saturate: 1 }) as const;
  types.set(input, { dtype: 'uint8', dims: byteDims(pixels, wanted.dims) });
  const planar = layout === 'NCHW' ? node('Transpose', 'planes', [input], { perm: [0, 3, 1, 2] }, of('uint8')) : input;
  const float = node('Cast', 'float', [planar], cast('float32'), of('float32'));
  const scaled = node('Mul', 'scaled', [float, constant('scale', pixels.scale)], {}, of('float32'));
  const shifted = node('Add', 'normalized', [scaled, constant('shift', pixels.shift)], {}, of('float32'));
  const value = wanted.dtype === 'float32' ? shifted : node('Cast', wanted.dtype, [shifted], cast(wanted.dtype), wanted);
  const readers = graph.nodes.map((reader) => (reader.inputs.includes(input) ? ({ ...reader, inputs: reader.inputs.map((id) => (id === input ? value : id)) } as AnyNode) : reader));
  return { ...graph, types, constants, nodes: [...nodes, ...readers] };
}
