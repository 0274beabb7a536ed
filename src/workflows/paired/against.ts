/**
 * `gate --against`: the baseline runs again, in the same rounds as the candidate, from engine files or as a git revision of the
 * project has it. What the machine does falls on both, so that nothing has to be assumed about another day; a case is measured
 * until it is decided or the rounds end.
 */
import { stat } from 'node:fs/promises';
import { TsrtError } from '../../errors.ts';
import { judge, type GateReport } from '../../gate/judge.ts';
import { sideDifferences } from '../../gate/pair.ts';
import type { GatePolicy } from '../../gate/policy.ts';
import type { MeasureServices } from '../../measure/orchestrate.ts';
import { withEngineFolder } from '../engine-folder.ts';
import { shellWord } from '../../text.ts';
import { worthNotice } from '../self-tests.ts';
import type { JoinedSides } from './join.ts';
import { measureSides } from './measure.ts';
import { withRevision } from './revision/revision.ts';
import { openSide, type PreparedSide, type SideRequest } from './side.ts';
import { sidesAgainstEngines, sidesAgainstRevision } from './sides.ts';

export interface AgainstRequest extends SideRequest {
  /** Engine files, or one git revision. */
  readonly against: readonly string[];
  /** Command that makes a checkout of the revision ready; default: none, the tool's own build where the project is the tool. */
  readonly prepare?: string | undefined;
  /** From the suite and the flags. */
  readonly policy: (suite: PreparedSide['suite']) => GatePolicy;
  /** Rounds after which the cases are looked at, ascending. */
  readonly looks: readonly number[];
  readonly services?: MeasureServices;
}

/** Measures and judges. */
export async function runGateAgainst(request: AgainstRequest): Promise<GateReport> {
  const { against } = request;
  const revision = await revisionOf(against);
  if (revision === undefined) {
    const baseline = `${against.length} engine file${against.length === 1 ? '' : 's'}`;
    return withEngineFolder(async (folder) => judgeSides(request, await sidesAgainstEngines(request, against, folder), baseline));
  }
  const { settings, prepare, signal, onEvent } = request;
  // What is wrong with the candidate is said before anything is checked out.
  const open = await openSide(request);
  return withRevision({ revision, prepare, cwd: process.cwd(), cache: settings.config.cache, signal, onEvent }, (checkout) =>
    withEngineFolder(async (folder) => judgeSides(request, await sidesAgainstRevision(open, checkout, folder), checkout.label)),
  );
}

/** The revision that is meant; undefined where engine files are. Throws USAGE for both at once, or several revisions. */
async function revisionOf(against: readonly string[]): Promise<string | undefined> {
  const revisions: string[] = [];
  for (const name of against) {
    const isFile = (await stat(name).catch(() => undefined))?.isFile() ?? false;
    if (!isFile && !name.endsWith('.engine')) revisions.push(name);
  }
  if (revisions.length <= (against.length === 1 ? 1 : 0)) return revisions[0];
  throw new TsrtError('USAGE', `--against takes engine files or one git revision; ${revisions.join(', ')} ${revisions.length === 1 ? 'is not a file' : 'are not files'}`, {
    fix: 'correct the names of the engine files, or name one revision alone',
  });
}

async function judgeSides(request: AgainstRequest, sides: JoinedSides, baseline: string): Promise<GateReport> {
  const { signal } = request;
  const { suite } = sides.candidate;
  const policy = request.policy(suite);
  const cases = await measureSides(sides, { ...request, policy });
  const both = cases.flatMap(({ pair }) => (pair.state === 'both' ? [pair] : []));
  const notices = [
    ...(signal.aborted ? ['interrupted: the verdict rests on what was measured'] : []),
    ...sides.notices,
    ...sideDifferences(both),
    'accuracy is not part of this comparison; `tsrt-bench run` measures it',
    await worthNotice(request.settings.config.cache, suite.name, { policy, timeMs: request.overrides.timeMs }, shellWord(request.suite)),
  ];
  return judge({ suite: suite.name, baseline, candidate: 'the suite as it is', cases, notices }, policy);
}
