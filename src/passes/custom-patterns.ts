/**
 * Subgraphs that exporters write for a fused op, put back together as the custom op that a plugin says they are.
 *
 * An op is put in only where it runs there natively: a decomposition of what was a composition would gain nothing.
 */
import { patternRuleName, type OpPattern, type PatternMatch, type RegisteredOp } from '../ir/custom.ts';
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import { toNumbers } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { blamesModel, defineNode, inOp, writeCustomAttributes } from '../ops/custom.ts';
import { webgpuRoute } from '../ops/custom-routes.ts';
import type { RawAttribute } from '../ops/def.ts';
import { applyRules, type Pass, type Rule } from './pass.ts';
import { matchPattern, type Match, type Pattern } from './pattern.ts';

export const customPatterns: Pass = {
  name: 'custom-patterns',
  summary: 'custom ops from the subgraphs that exporters write them in',
  targets: ['webgpu'],
  run(graph, { customOps = [] }) {
    const rules = customOps.flatMap((entry) => (entry.op.patterns ?? []).map((pattern) => ruleOf(entry, pattern)));
    return rules.length === 0 ? { graph, rewrites: {} } : applyRules(graph, rules);
  },
};

function ruleOf(entry: RegisteredOp, pattern: OpPattern): Rule {
  return {
    name: patternRuleName(entry, pattern),
    ops: rootsOf(pattern.match as Pattern),
    rewrite(node, edit) {
      const match = matchPattern(pattern.match as Pattern, node, edit);
      return match !== undefined && rewrite(entry, pattern, match, edit);
    },
  };
}

/** Ops that a match can end in. */
function rootsOf(pattern: Pattern): Extract<Pattern, { kind: 'op' }>['op'][] {
  if (pattern.kind === 'op') return [pattern.op];
  return pattern.kind === 'either' ? pattern.options.flatMap(rootsOf) : [];
}

function rewrite(entry: RegisteredOp, pattern: OpPattern, match: Match, edit: GraphEditor): boolean {
  const { op } = entry;
  const [output, ...others] = match.root.outputs;
  if (op.outputs.length !== 1 || others.length > 0 || !output) return false;
  const raw = inOp(entry, `pattern ${pattern.name}`, () => (pattern.attributes ? pattern.attributes(describe(match, edit)) : {}));
  if (!raw) return false;
  const inputs = pattern.inputs.map((name) => (name === '' ? '' : match.value(name)));
  const defined = fitting(entry, raw, inputs.map((id) => (id === '' ? undefined : edit.type(id))));
  if (!defined || !sameType(defined.types[0]!, edit.type(output))) return false;
  const { definition } = defined;
  const route = webgpuRoute(definition, inputs.map((id) => (id === '' ? undefined : edit.type(id))));
  if (route === undefined || route === 'decomposed') return false;
  edit.replaceNode(match.root, {
    op: 'Custom',
    inputs,
    attrs: { domain: op.domain, opType: op.name, opset: op.opset?.[0] ?? 1, attributes: writeCustomAttributes(op, definition.attrs), definition },
    origins: unionOrigins(...match.nodes.toReversed()),
  });
  return true;
}

/** What matches by its ops may still not be the op by its operands. */
function fitting(entry: RegisteredOp, raw: Readonly<Record<string, RawAttribute>>, types: Parameters<typeof defineNode>[2]): ReturnType<typeof defineNode> | undefined {
  try {
    return defineNode(entry, new Map(Object.entries(raw)), types);
  } catch (error) {
    if (blamesModel(error) && !(error instanceof Error && error.name === 'TsrtError')) return undefined;
    throw error;
  }
}

function describe(match: Match, edit: GraphEditor): PatternMatch {
  return {
    type: (name) => edit.type(match.value(name)),
    numbers(name) {
      const tensor = edit.constant(match.value(name));
      if (!tensor) throw new Error(`'${name}' is not a constant`);
      return toNumbers(tensor);
    },
    attributes: (name) => match.node(name).attrs as Readonly<Record<string, unknown>>,
  };
}
