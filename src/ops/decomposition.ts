/**
 * What a custom op is in standard ones: its decomposition on given operands, built with the op table's inference and checked against the types that
 * the op inferred.
 */
import { opTitle, type CustomDefinition, type Decomposer } from '../ir/custom.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { formatType, fromNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { nearest } from '../nearest.ts';
import { readAttributes } from './attributes.ts';
import { newGraphBuilder } from './builder.ts';
import { inOp } from './custom.ts';
import { exprToNodes } from './custom-expr.ts';
import type { RawAttribute } from './def.ts';
import { OPS } from './table.ts';

export interface Operand {
  readonly type: TensorType;
  readonly constant: Tensor | undefined;
}

/** A decomposition as a graph whose inputs are `in0`, `in1` … (constants among them as constants). */
export interface Decomposition {
  readonly graph: Graph;
  /** By input of the op; '' for an absent one. */
  readonly inputs: readonly ValueId[];
}

/** Builds and checks the decomposition of an op on these operands; `outputs` are the types that it inferred. */
export function decompositionOf(definition: CustomDefinition, operands: readonly (Operand | undefined)[], outputs: readonly (TensorType | undefined)[]): Decomposition {
  const { op, attrs } = definition;
  return inOp(definition, op.decompose ? 'decompose' : 'expression', () => {
    const builder = newGraphBuilder(opTitle(op));
    const inputs = operands.map((operand, index) => {
      if (!operand) return '';
      return operand.constant ? builder.constant(operand.constant, `in${index}`) : builder.input(`in${index}`, operand.type);
    });
    const padded = op.inputs.map((_, index) => inputs[index] ?? '');
    const graph = decomposer(builder, padded);
    const made = op.decompose ? op.decompose({ attrs, graph }) : fromExpression(definition, inputs, graph);
    const given: unknown = typeof made === 'string' ? [made] : made;
    if (!isNames(given)) throw new Error('it returns no value: return what graph.op gave for the output, or a list of these');
    if (given.length !== op.outputs.length) throw new Error(`it gives ${given.length} outputs, the op has ${op.outputs.length}`);
    // An output of its own for each: inputs, constants and values that are given twice pass through an Identity.
    const nodes = new Set<ValueId>();
    const results = given.map((id) => {
      const plain = id.startsWith('in') || nodes.has(id);
      const own = plain || builder.finish([id]).constants.has(id) ? graph.op('Identity', [id]) : id;
      nodes.add(own);
      return own;
    });
    for (const [index, id] of results.entries()) {
      const wanted = outputs[index];
      if (wanted && !sameType(builder.type(id), wanted)) {
        throw new Error(`output '${op.outputs[index]}' is ${formatType(builder.type(id))}, and infer says ${formatType(wanted)}`);
      }
    }
    return { graph: builder.finish(results), inputs };
  });
}

function isNames(given: unknown): given is readonly ValueId[] {
  return Array.isArray(given) && given.every((id) => typeof id === 'string');
}

function fromExpression({ op, attrs }: CustomDefinition, inputs: readonly ValueId[], graph: Decomposer): string {
  const present = inputs.filter((id) => id !== '');
  const operands = present.map((id, index) => ({ kind: 'input' as const, index, dtype: graph.type(id).dtype }));
  return exprToNodes(op.expression!({ attrs, inputs: operands }), present, graph);
}

function decomposer(builder: ReturnType<typeof newGraphBuilder>, inputs: readonly ValueId[]): Decomposer {
  const ops: Decomposer['ops'] = (kind, operands, outputs, attributes = {}) => {
    if (!isStandard(kind)) {
      const guess = nearest(kind, Object.keys(OPS));
      throw new Error(`'${kind}' is not a standard op${guess === undefined ? '' : `; did you mean '${guess}'?`}`);
    }
    const foreign = operands.find((id) => id !== '' && !builder.has(id));
    if (foreign !== undefined) throw new Error(`${kind} reads '${foreign}', which is not a value: take it from graph.inputs, or make it with graph.op or graph.constant`);
    checkArity(kind, operands);
    const raw = new Map<string, RawAttribute>(Object.entries(attributes));
    return builder.nodeOutputs(kind, operands, readAttributes(kind, raw), { outputs, name: kind });
  };
  return {
    inputs,
    type: (id) => builder.type(id),
    op: (kind, operands, attributes) => ops(kind, operands, 1, attributes)[0]!,
    ops,
    constant: (dtype, dims, values) => builder.constant(fromNumbers(dtype, dims, values)),
  };
}

/** An absent optional input that is passed on to an op that needs it is a mistake that most of inference does not see. */
function checkArity(kind: OpKind, operands: readonly ValueId[]): void {
  const { min, max } = OPS[kind].inputs;
  const count = operands.findLastIndex((id) => id !== '') + 1;
  const absent = operands.slice(0, min).indexOf('');
  if (absent >= 0) throw new Error(`${kind} needs its input ${absent}, which is absent here: '' stands for an optional input that the model leaves out`);
  if (count < min || count > max) throw new Error(`${kind} takes ${min === max ? min : `${min} to ${max}`} inputs, found ${count}`);
}

function isStandard(kind: string): kind is OpKind {
  return Object.hasOwn(OPS, kind) && ['', 'com.microsoft'].includes(OPS[kind as OpKind].domain);
}
