/**
 * What stands between a plugin's parts and the rest: every error that a part's code raises gets the plugin's name, and every
 * engine says which plugins it needs.
 */
import type { Backend } from './backends/backend.ts';
import type { Engine, EngineHeader } from './engine/engine.ts';
import { inPlugin, TsrtError } from './errors.ts';
import { patternRuleName, type PluginStamp, type RegisteredOp } from './ir/custom.ts';

/** Names of abort signals' reasons: they are the user's, not the plugin's. */
const PASSING = new Set(['AbortError', 'TimeoutError']);

/** Whether an error goes through as it is. */
export function passes(error: unknown): boolean {
  return error instanceof Error && PASSING.has(error.name);
}

/** The part with every method wrapped; results named in `deep` (by method) are wrapped too. */
export function guarded<T extends object>(part: T, plugin: string, title: string, deep: Readonly<Record<string, Readonly<Record<string, object>>>> = {}): T {
  const wrapped = new Map<PropertyKey, unknown>();
  // Not a proxy of the part itself: a frozen one would have to give its own methods.
  return new Proxy({} as T, {
    has: (_, key) => Reflect.has(part, key),
    get(_, key) {
      const value: unknown = Reflect.get(part, key, part);
      if (typeof value !== 'function' || typeof key !== 'string') return value;
      const known = wrapped.get(key);
      if (known !== undefined) return known;
      const inner = deep[key] as Parameters<typeof guarded>[3] | undefined;
      const dress = (result: unknown): unknown =>
        inner && typeof result === 'object' && result !== null ? guarded(result, plugin, `${title}.${key}`, inner) : result;
      const wrapper = (...parameters: unknown[]): unknown => {
        const result = inPlugin(plugin, `${title}.${key}`, () => (value as (...p: unknown[]) => unknown).apply(part, parameters), passes);
        if (!inner) return result;
        return result instanceof Promise ? result.then(dress) : dress(result);
      };
      wrapped.set(key, wrapper);
      return wrapper;
    },
  });
}

/** What of a backend gives objects whose methods are the plugin's code as well. */
const BACKEND_PARTS = { load: { prepare: {} }, reference: {} } as const;

/** A backend whose engines say which plugins they need, and which refuses those whose plugins are not loaded. */
export function guardBackend(backend: Backend, owner: PluginStamp | undefined, { stamps, ops }: { readonly stamps: readonly PluginStamp[]; readonly ops: readonly RegisteredOp[] }): Backend {
  const inner = owner ? guarded(backend, owner.name, `backend ${backend.name}`, BACKEND_PARTS) : backend;
  const build: Backend['build'] = async (input, context) => {
    const engine = await inner.build(input, context);
    return withPlugins(engine, [...(owner ? [owner] : []), ...neededPlugins(engine.header, input)]);
  };
  const load: Backend['load'] = async (engine, options) => {
    requirePlugins(engine.header, stamps);
    return inner.load(engine, options);
  };
  // Models with custom ops have their reference in their plugins.
  const reference: Backend['reference'] = async (model) => {
    if (ops.length === 0) return inner.reference!(model);
    const { openCustomReference } = await import('./backends/onnxruntime/custom-reference.ts');
    return openCustomReference(model, ops) ?? inner.reference!(model);
  };
  return new Proxy({} as Backend, {
    has: (_, key) => Reflect.has(inner, key),
    get(_, key) {
      if (key === 'build') return build;
      if (key === 'load') return load;
      if (key === 'reference' && inner.reference) return reference;
      const value: unknown = Reflect.get(inner, key, inner);
      return typeof value === 'function' ? (value.bind(inner) as unknown) : value;
    },
  });
}

/** Plugins whose ops the model has, or whose patterns put them there. */
function neededPlugins({ passes: reports }: EngineHeader, { graph, customOps = [] }: Parameters<Backend['build']>[0]): PluginStamp[] {
  if (!graph.ok) return [];
  const own = graph.graph.nodes.flatMap((node) => (node.op === 'Custom' && node.attrs.definition ? [node.attrs.definition.plugin] : []));
  const rules = new Set(reports.flatMap(({ rewrites }) => Object.keys(rewrites)));
  return [...own, ...customOps.filter((entry) => patternRuleNames(entry).some((name) => rules.has(name))).map(({ plugin }) => plugin)];
}

function patternRuleNames(entry: RegisteredOp): string[] {
  return (entry.op.patterns ?? []).map((pattern) => patternRuleName(entry, pattern));
}

function withPlugins(engine: Engine, needed: readonly PluginStamp[]): Engine {
  if (needed.length === 0) return engine;
  const plugins = [...new Map(needed.map((stamp) => [stamp.name, stamp])).values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return { ...engine, header: { ...engine.header, plugins } };
}

/** What an engine needs of plugins and does not find, one line each. */
export function missingPlugins({ plugins = [] }: EngineHeader, loaded: readonly PluginStamp[]): string[] {
  return plugins.flatMap((needed) => {
    const found = loaded.find(({ name }) => name === needed.name);
    if (!found) return [`plugin ${needed.name} ${needed.version}: not loaded`];
    if (found.version !== needed.version) return [`plugin ${needed.name}: engine ${needed.version}, here ${found.version}`];
    if (found.sha256 !== needed.sha256) return [`plugin ${needed.name} ${needed.version}: its code has changed since the engine was built (sha256 ${needed.sha256.slice(0, 12)}…, here ${found.sha256.slice(0, 12)}…)`];
    return [];
  });
}

function requirePlugins(header: EngineHeader, loaded: readonly PluginStamp[]): void {
  const details = missingPlugins(header, loaded);
  if (details.length === 0) return;
  throw new TsrtError('ENGINE_INCOMPATIBLE', `the engine of ${header.model.name} needs ${details.length === 1 ? 'a plugin' : 'plugins'} that it was built with`, {
    details,
    fix: `load it with --plugin (${(header.plugins ?? []).map(({ name }) => name).join(', ')}), or build the engine again`,
  });
}
