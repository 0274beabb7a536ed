/** The two sides of a gate that measures: the suite as it is, and what it is held against. */
import { join } from 'node:path';
import { TsrtError } from '../../errors.ts';
import { engineKey } from '../run/engines.ts';
import { admitEngines, prebuiltCases, type PrebuiltEngines } from '../run/prebuilt.ts';
import { joinSides, type JoinedSides } from './join.ts';
import { type Checkout, type CheckoutOrder, prepareHere } from './revision/revision.ts';
import { makeSide, openSide, type OpenSide, type PreparedSide, type SideRequest } from './side.ts';

/** The suite's engines against themselves. */
export async function identicalSides(request: SideRequest, folder: string): Promise<JoinedSides> {
  const side = await makeSide(await openSide(request), { folder: join(folder, 'candidate') });
  return joinSides(side, side);
}

/** The cases for which `files` are engines. Throws what `run` throws, and USAGE where an engine has no case. */
export async function sidesAgainstEngines(request: SideRequest, files: readonly string[], folder: string): Promise<JoinedSides> {
  const open = await openSide(request);
  const old = await baselineEngines(files, open);
  const cases = open.cases.filter((entry) => old.has(engineKey(entry.variant))).map((entry) => ({ id: entry.id, case: entry }));
  const candidate = await makeSide(open, { folder: join(folder, 'candidate'), cases });
  return joinSides(await makeSide(open, { folder: join(folder, 'baseline'), cases, prebuilt: old }), candidate);
}

/** The suite as it is, and as a revision of the project has it. */
export async function sidesAgainstRevision(open: OpenSide, checkout: Checkout, folder: string): Promise<JoinedSides> {
  const { request } = open;
  const { onEvent } = request;
  for (const text of checkout.notices) onEvent({ kind: 'notice', text });
  const candidate = await workingTree(open, join(folder, 'candidate'));
  onEvent({ kind: 'stage', stage: 'build', text: checkout.label });
  const sides = await joinSides(await checkout.prepare(orderOf(request, join(folder, 'baseline'))), candidate);
  return { ...sides, notices: [...checkout.notices, ...sides.notices] };
}

/** Engines that are there already are taken as they are; else all is prepared as the revision's is. */
async function workingTree(open: OpenSide, folder: string): Promise<PreparedSide> {
  const { request } = open;
  if (request.engineFiles && request.engineFiles.length > 0) return makeSide(open, { folder });
  const { settings, signal, onEvent, overrides } = request;
  const side = await prepareHere(orderOf(request, folder), { cwd: process.cwd(), cache: settings.config.cache, signal, onEvent });
  return { ...side, settings: { ...side.settings, budgetMs: overrides.budgetMs ?? side.settings.budgetMs } };
}

/** What a revision's own tool is asked for; its configuration it reads for itself. */
export function orderOf({ suite, modelFile, settings: { config, origins }, device, overrides }: SideRequest, folder: string): CheckoutOrder {
  const plugins = origins.plugins === 'flag' ? config.plugins : undefined;
  return { suite, modelFile, plugins, device, timeMs: overrides.timeMs, seed: config.seed, folder, cases: undefined, accuracy: false };
}

async function baselineEngines(files: readonly string[], { request: { onEvent }, ...open }: OpenSide): Promise<PrebuiltEngines> {
  const { suite, machine, model, registry, probe, cases } = open;
  const { prebuilt } = await prebuiltCases(files, suite, {}, machine);
  const matched = matchEngines(prebuilt, new Set(cases.map((entry) => engineKey(entry.variant))));
  return admitEngines(matched, { modelSha256: model.sha256, registry, probe, rebuild: false, onEvent });
}

/** By variant and batch; one engine against one other is taken at the user's word, whatever their variants. */
function matchEngines(engines: PrebuiltEngines, known: ReadonlySet<string>): PrebuiltEngines {
  const [only] = known.size === 1 && engines.size === 1 ? known : [];
  if (only !== undefined) return new Map([...engines.values()].map((engine) => [only, engine]));
  for (const [key, { file }] of engines) {
    if (known.has(key)) continue;
    throw new TsrtError('USAGE', `no case is for the engine ${key}`, { place: file, fix: `the cases are for ${[...known].slice(0, 12).join(', ')}` });
  }
  return engines;
}
