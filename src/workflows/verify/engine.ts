/** What `verify` does with an engine file: checks it against the model that it is said to compute, or builds it again from that. */
import { basename, resolve } from 'node:path';
import type { BuildOptions } from '../../engine/engine.ts';
import { sha256Hex } from '../../engine/sha256.ts';
import { TsrtError } from '../../errors.ts';
import type { Registry } from '../../registry.ts';
import { readEngineFile, refusedEngines, requireLoaded, whyNotHere } from '../engine-file.ts';
import { readModelFile } from '../model-file.ts';
import { probeBackend } from '../probe.ts';
import { caseOfFile, type VerifyCase } from './cases.ts';

export interface EngineQuestion {
  readonly engineFile: string;
  /** The model to compare with. */
  readonly against: string | undefined;
  /** Build the engine again where it does not fit. */
  readonly rebuild: boolean;
  /** As it was asked for. */
  readonly device: string | undefined;
  readonly registry: Registry;
}

export interface EngineCase {
  readonly testCase: VerifyCase;
  /** The engine's own. */
  readonly options: BuildOptions;
  readonly notices: readonly string[];
}

/** Throws TsrtError: USAGE without a model, ENGINE_INVALID, ENGINE_INCOMPATIBLE by the name of what differs. */
export async function engineCase({ engineFile, against, rebuild, device, registry }: EngineQuestion): Promise<EngineCase> {
  const read = await readEngineFile(engineFile);
  const { header } = read;
  requireLoaded([read], registry.stamps);
  if (against === undefined) {
    throw new TsrtError('USAGE', 'an engine file holds no answers to compare with', {
      place: engineFile,
      fix: `give the model that it was built from: --against ${header.model.name}.onnx`,
    });
  }
  const backend = registry.backend(header.backend);
  const ofModel = await caseOfFile(resolve(against));
  const modelSha256 = await sha256Hex(await readModelFile(against));
  const reasons = whyNotHere(read, await probeBackend(backend, device), registry.stamps);
  const name = basename(engineFile);
  if (reasons.length > 0 && !rebuild) throw refusedEngines([{ file: engineFile, reasons }]);
  if (reasons.length > 0) {
    return { testCase: { ...ofModel, name }, options: header.options, notices: [`${name} was built again: ${reasons.join('; ')}`] };
  }
  const foreign = modelSha256 === header.model.sha256 ? [] : [`${name} was built from another model file than ${basename(against)}`];
  return { testCase: { ...ofModel, name, engineFile: resolve(engineFile) }, options: header.options, notices: foreign };
}
