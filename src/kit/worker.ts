/**
 * The entry of the conformance kit's worker process: it runs a plugin's code, one case or part after the other. A process of its own,
 * because code that hangs can only be ended from outside, and a kernel that is wrong may take a driver with it.
 */
import { BACKENDS } from '../backends/built-in.ts';
import { reportError, TsrtError } from '../errors.ts';
import { blamesModel } from '../ops/custom.ts';
import { loadRegistry, type Registry } from '../registry.ts';
import { TOOL_VERSION } from '../version.ts';
import { describeCase, describeMaterial, materialize } from './case.ts';
import { runCheck } from './checks.ts';
import type { KitReply, KitRequest } from './messages.ts';
import { Nonconforming } from './nonconforming.ts';
import { judgePart } from './part-checks.ts';

let state: { readonly registry: Registry; readonly device: string | undefined } | undefined;

async function serve(request: KitRequest): Promise<KitReply> {
  if (request.kind === 'open') {
    const builtIn = { name: 'tsrt-bench', version: TOOL_VERSION, backends: BACKENDS };
    state = { registry: await loadRegistry({ builtIn, plugins: request.plugins, cwd: request.cwd }), device: request.device };
    return { kind: 'opened' };
  }
  if (!state) throw new Error('the worker was not opened');
  if (request.kind === 'part') return { kind: 'judged', verdict: await judgePart(state.registry, request.part, request.material) };
  const entry = state.registry.ops[request.op]!;
  let input = describeCase(request.given);
  try {
    const material = materialize(entry.op, request.given);
    input = describeMaterial(entry.op, material);
    return { kind: 'passed', worst: await runCheck(request.check, { entry, material, ...state }) };
  } catch (error) {
    if (error instanceof Nonconforming) return { kind: 'failed', message: error.message, input };
    if (blamesModel(error) && !(error instanceof TsrtError)) return { kind: 'refused', reason: (error as Error).message };
    const { message, details = [], code, stack, place } = reportError(error);
    const more = code === 'INTERNAL' && stack ? [stack.split('\n').slice(1, 3).join(' ').trim()] : [...details.slice(0, 2), ...(code === 'PLUGIN_FAILED' && place !== undefined ? [`at ${place}`] : [])];
    return { kind: 'failed', message: [message, ...more].join('; '), input };
  }
}

process.on('message', (request: KitRequest) => {
  void serve(request)
    .catch((error: unknown): KitReply => ({ kind: 'broken', error: reportError(error) }))
    .then((reply) => process.send?.(reply));
});
// Ctrl-C reaches the whole process group; the parent decides what becomes of its worker.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
