/**
 * From a node of any opset to the vocabulary at the reference opset: the rule for its op, or the node as it is.
 */
import type { OpKind } from '../ir/ops.ts';
import { OPS } from '../ops/table.ts';
import type { SourceNode } from './scope.ts';
import { ATTENTION_RULES, PREVIEW_RULES } from './upgrade/attention.ts';
import { CONTRIB_RULES } from './upgrade/contrib.ts';
import { DETERMINANT_RULES } from './upgrade/determinant.ts';
import { EARLY_RULES, withoutConsumed } from './upgrade/early.ts';
import { EXPERIMENTAL_RULES } from './upgrade/experimental.ts';
import { FEW_BITS_RULES } from './upgrade/few-bits.ts';
import { FEW_BIT_TYPE_RULES } from './upgrade/few-bit-types.ts';
import { GEOMETRY_RULES } from './upgrade/geometry.ts';
import { GROUPED_RULES } from './upgrade/grouped-query.ts';
import { LINEAR_ATTENTION_RULES } from './upgrade/linear-attention.ts';
import { LOSS_RULES } from './upgrade/losses.ts';
import { MEANING_RULES } from './upgrade/meaning.ts';
import { OPERAND_RULES } from './upgrade/operands.ts';
import { QUANTIZED_RULES } from './upgrade/quantized.ts';
import { RECENT_RULES } from './upgrade/recent.ts';
import { emitAs, type Rule } from './upgrade/rule.ts';
import { SIGNAL_RULES } from './upgrade/signal.ts';
import { TRANSFORMER_RULES } from './upgrade/transformers.ts';

const ONNX_RULES: ReadonlyMap<string, Rule> = new Map([...EARLY_RULES, ...OPERAND_RULES, ...MEANING_RULES, ...FEW_BIT_TYPE_RULES, ...ATTENTION_RULES, ...SIGNAL_RULES, ...LOSS_RULES, ...DETERMINANT_RULES, ...GEOMETRY_RULES, ...LINEAR_ATTENTION_RULES, ...RECENT_RULES, ...EXPERIMENTAL_RULES]);
const MICROSOFT_RULES: ReadonlyMap<string, Rule> = new Map([...CONTRIB_RULES, ...QUANTIZED_RULES, ...FEW_BITS_RULES, ...TRANSFORMER_RULES, ...GROUPED_RULES]);

/** The rule that imports a node, or undefined where the vocabulary lacks its op. */
export function ruleFor({ domain, opType }: Pick<SourceNode, 'domain' | 'opType'>): Rule | undefined {
  if (domain === 'com.microsoft') return MICROSOFT_RULES.get(opType);
  if (domain === 'ai.onnx.preview') return PREVIEW_RULES.get(opType);
  if (domain !== '') return undefined;
  const rule = ONNX_RULES.get(opType) ?? (isOnnxOp(opType) ? (node, scope) => emitAs(opType, node, scope) : undefined);
  return rule && withoutConsumed(rule);
}

/** Whether an op has weights of few bits, which its rule holds as floats. */
export function hasFewBits({ domain, opType }: Pick<SourceNode, 'domain' | 'opType'>): boolean {
  return domain === 'com.microsoft' && FEW_BITS_RULES.has(opType);
}

/** Ops outside of the vocabulary that are read as ops of it, with their domain where that is not ONNX's own. */
export function translatedOps(): readonly string[] {
  const own = [...ONNX_RULES.keys()].filter((opType) => !isOnnxOp(opType));
  return [...own.sort(), ...[...PREVIEW_RULES.keys()].map((opType) => `ai.onnx.preview.${opType}`), ...[...MICROSOFT_RULES.keys()].sort().map((opType) => `com.microsoft.${opType}`)];
}

function isOnnxOp(opType: string): opType is OpKind {
  return Object.hasOwn(OPS, opType) && OPS[opType as OpKind].domain === '';
}
