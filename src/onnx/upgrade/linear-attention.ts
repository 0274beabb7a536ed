/**
 * Layers whose memory is a state and not a cache of keys (opset 27): linear attention with its delta rule and decay (Gated DeltaNet, GLA,
 * RetNet), and the short causal convolution in front of it.
 */
import { fromNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** Some ten nodes each. */
const MOST_STEPS = 1024;

/** A rule has a decay of the state, or the delta rule, or both. */
const UPDATE_RULES: Readonly<Record<string, { readonly decays: boolean; readonly delta: boolean }>> = {
  linear: { decays: false, delta: false },
  gated: { decays: true, delta: false },
  delta: { decays: false, delta: true },
  gated_delta: { decays: true, delta: true },
};

function refuseOthers(node: SourceNode, known: readonly string[]): void {
  const other = [...node.attributes.keys()].find((name) => !known.includes(name));
  if (other !== undefined) throw new UnsupportedError(`attribute '${other}' is not known`);
}

function wordOf(node: SourceNode, name: string, fallback: string): string {
  const word = node.attributes.get(name) ?? fallback;
  if (typeof word !== 'string') throw new ShapeError(`attribute '${name}' must be a word`);
  return word;
}

/** [batch, steps, …] as float32[steps, batch, …dims]: the state is kept in it whatever the type of the rows. */
function byStep(node: SourceNode, scope: Scope, id: string, dims: readonly number[]): string {
  const [batch, steps] = scope.type(id).dims as readonly [number, number];
  const [single] = scope.emit(node, 'Cast', [id], { to: ONNX_DTYPE.float32 });
  const [split] = scope.emit(node, 'Reshape', [single!, int64Input(scope, [batch, steps, ...dims])], { allowzero: 1 });
  return scope.emit(node, 'Transpose', [split!], { perm: [1, 0, ...dims.map((_, axis) => axis + 2)] })[0]!;
}

/**
 * For each step: S ← decay·S + kᵀ·(beta·(v − k·S)), or + kᵀ·v without the delta rule; and its row is scale·q·S. Heads of queries that share
 * a head of keys are rows of one product.
 */
const linearAttention: Rule = (node, scope) => {
  refuseOthers(node, ['q_num_heads', 'kv_num_heads', 'scale', 'update_rule', 'chunk_size']);
  const form = UPDATE_RULES[wordOf(node, 'update_rule', 'gated_delta')];
  if (!form) throw new ShapeError(`attribute 'update_rule' must be one of ${Object.keys(UPDATE_RULES).join(', ')}`);
  const [queryHeads, heads] = ['q_num_heads', 'kv_num_heads'].map((name) => numberAttribute(node, name)) as [number, number];
  const [query, key, value] = [0, 1, 2].map((index) => inputOf(node, index)) as [string, string, string];
  const { dtype, dims } = scope.type(query);
  const [batch, steps, width] = dims as readonly [number, number, number];
  const [size, valueSize, shared] = [scope.type(key).dims[2]! / heads, scope.type(value).dims[2]! / heads, queryHeads / heads];
  if (dims.length !== 3 || ![size, valueSize, shared].every((extent) => Number.isInteger(extent) && extent > 0) || width !== queryHeads * size) {
    throw new ShapeError(`queries of [${dims.join(',')}] in ${queryHeads} heads do not go with keys and values of ${heads}`);
  }
  if (steps === 0 || steps > MOST_STEPS) throw new UnsupportedError(`${steps} steps are not between 1 and ${MOST_STEPS}`);
  const scale = numberAttribute(node, 'scale', 1 / Math.sqrt(size));
  if (scale === 0) throw new UnsupportedError("attribute 'scale' of 0 is not supported");
  const [decay, beta] = [node.inputs[4] ?? '', node.inputs[5] ?? ''];
  if ((decay !== '') !== form.decays || (beta !== '') !== form.delta) throw new ShapeError(`the decay and beta that are given are not those of the update rule`);

  const rows = byStep(node, scope, query, [heads, shared, size]);
  const keys = byStep(node, scope, key, [heads, 1, size]);
  const values = byStep(node, scope, value, [heads, 1, valueSize]);
  const decays = form.decays ? scope.emit(node, 'Exp', [byStep(node, scope, decay, [heads, scope.type(decay).dims[2]! / heads, 1])], {})[0]! : '';
  const betas = form.delta ? byStep(node, scope, beta, [scope.type(beta).dims[2]!, 1, 1]) : '';
  const past = node.inputs[3] ?? '';
  let state = past === '' ? scope.addConstant(fromNumbers('float32', [batch, heads, size, valueSize], new Float32Array(batch * heads * size * valueSize))) : scope.emit(node, 'Cast', [past], { to: ONNX_DTYPE.float32 })[0]!;
  const results: string[] = [];
  for (let step = 0; step < steps; step++) {
    const at = (id: string): string => scope.emit(node, 'Gather', [id, scalarInput(scope, 'int64', step)], { axis: 0 })[0]!;
    const own = at(keys);
    if (form.decays) [state] = scope.emit(node, 'Mul', [state, at(decays)], {}) as [string];
    let [written] = [at(values)];
    if (form.delta) {
      const [read] = scope.emit(node, 'MatMul', [own, state], {});
      const [change] = scope.emit(node, 'Sub', [written, read!], {});
      [written] = scope.emit(node, 'Mul', [change!, at(betas)], {}) as [string];
    }
    const [column] = scope.emit(node, 'Reshape', [own, int64Input(scope, [batch, heads, size, 1])], {});
    const [outer] = scope.emit(node, 'Mul', [column!, written], {});
    [state] = scope.emit(node, 'Add', [state, outer!], {}) as [string];
    const [result] = scope.emit(node, 'MatMul', [at(rows), state], {});
    results.push(scope.emit(node, 'Reshape', [result!, int64Input(scope, [batch, 1, queryHeads * valueSize])], {})[0]!);
  }
  const [all] = scope.emit(node, 'Concat', results, { axis: 1 });
  const [scaled] = scope.emit(node, 'Mul', [all!, scalarInput(scope, 'float32', scale)], {});
  scope.emit(node, 'Cast', [scaled!], { to: ONNX_DTYPE[dtype] }, node.outputs.slice(0, 1));
  const present = node.outputs[1] ?? '';
  if (scope.isUsed(present)) scope.emit(node, 'Cast', [state], { to: ONNX_DTYPE[past === '' ? dtype : scope.type(past).dtype] }, [present]);
};

/** A convolution of each channel over what came before, which the state has of the steps before these. */
const causalConvWithState: Rule = (node, scope) => {
  refuseOthers(node, ['activation']);
  const activation = wordOf(node, 'activation', 'none');
  if (!['none', 'silu', 'swish'].includes(activation)) throw new UnsupportedError(`activation '${activation}' is not supported`);
  const [data, weight] = [inputOf(node, 0), inputOf(node, 1)];
  const { dtype, dims } = scope.type(data);
  const [batch, channels, steps] = dims as readonly [number, number, number];
  const { dims: kernel } = scope.type(weight);
  if (dims.length !== 3 || kernel.length !== 3 || kernel[0] !== channels || kernel[1] !== 1) throw new ShapeError(`weights of [${kernel.join(',')}] are not one row for each channel of [${dims.join(',')}]`);
  const kept = kernel[2]! - 1;
  const past = (node.inputs[3] ?? '') || scope.addConstant(fromNumbers(dtype, [batch, channels, kept], new Float32Array(batch * channels * kept)));
  const before = scope.type(past).dims;
  if (before.join() !== [batch, channels, kept].join()) throw new ShapeError(`a state of [${before.join(',')}] is none of [${batch},${channels},${kept}]`);
  const all = kept === 0 ? data : scope.emit(node, 'Concat', [past, data], { axis: 2 })[0]!;
  const output = node.outputs.slice(0, 1);
  const bias = node.inputs[2] ?? '';
  const [sum] = scope.emit(node, 'Conv', bias === '' ? [all, weight] : [all, weight, bias], { group: channels }, activation === 'none' ? output : undefined);
  if (activation !== 'none') {
    const [gate] = scope.emit(node, 'Sigmoid', [sum!], {});
    scope.emit(node, 'Mul', [sum!, gate!], {}, output);
  }
  const present = node.outputs[1] ?? '';
  if (scope.isUsed(present)) scope.emit(node, 'Slice', [all, ...[steps, steps + kept, 2].map((number) => int64Input(scope, [number]))], {}, [present]);
};

export const LINEAR_ATTENTION_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['CausalConvWithState', causalConvWithState],
  ['LinearAttention', linearAttention],
]);
