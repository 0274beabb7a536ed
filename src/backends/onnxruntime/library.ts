/**
 * onnxruntime-node, loaded when first needed: its native library takes longer to load than a command may take to print help.
 */
import type * as OrtModule from 'onnxruntime-node';
import { TsrtError } from '../../errors.ts';
import { saturates } from './saturation.ts';

export type Ort = typeof OrtModule;
export type OrtSession = OrtModule.InferenceSession;
export type OrtTensor = OrtModule.Tensor;
export type SessionOptions = OrtModule.InferenceSession.SessionOptions;

let loading: Promise<Ort> | undefined;

/** The library, silenced: it would write warnings to the process's stderr, where they are nobody's. */
export function loadOrt(): Promise<Ort> {
  loading ??= importOrt();
  return loading;
}

async function importOrt(): Promise<Ort> {
  try {
    const module = (await import('onnxruntime-node')) as Ort & { readonly default?: Ort };
    const ort = module.default ?? module;
    ort.env.logLevel = 'fatal';
    return ort;
  } catch (cause) {
    throw new TsrtError('BACKEND_UNAVAILABLE', `onnxruntime-node does not load here: ${reasonOf(cause)}`, {
      fix: 'run npm ci again, on a platform that onnxruntime-node has binaries for (Linux, macOS, Windows; x64, arm64)',
      cause,
    });
  }
}

/** Logging of one session: nothing below fatal. */
export const SILENT = { logSeverityLevel: 4 } as const;

/**
 * A session whose products of bytes are exact: where this processor's fast kernels saturate ({@link saturates}) onnxruntime is asked for its others, for
 * which it rewrites the weights. It fails to where nodes share weights (1.30): such a model keeps the kernels that saturate.
 */
export async function openSession(ort: Ort, model: Uint8Array, options: SessionOptions): Promise<OrtSession> {
  if (!(await saturates(ort))) return ort.InferenceSession.create(model, options);
  const { session, ...extra } = (options.extra ?? {}) as { readonly session?: object };
  try {
    return await ort.InferenceSession.create(model, { ...options, extra: { ...extra, session: { ...session, x64quantprecision: '1' } } });
  } catch {
    return ort.InferenceSession.create(model, options);
  }
}

/** A C++ signature that onnxruntime puts before what went wrong in it. */
const SIGNATURE = /[\w:<>~&* ]*onnxruntime::[^()]*(?:\(\))?\([^()]*\)(?: const)?(?:::\S+)? /g;

/** What onnxruntime says, in one line, without its own source paths and function signatures. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const [line = ''] = message.split('\n');
  return line.replace(/\/onnxruntime_src\/\S+ /g, '').replace(SIGNATURE, ' ').replace(/\s+/g, ' ').trim();
}

/** What a run that onnxruntime refused is to the user: TsrtError MODEL_UNSUPPORTED with its words, or OUT_OF_MEMORY. */
export function runError(cause: unknown): Error {
  const message = reasonOf(cause);
  if (/bad_alloc|failed to allocate|out of memory/i.test(message)) {
    return new TsrtError('OUT_OF_MEMORY', `onnxruntime ran out of memory: ${message}`, { fix: 'use a smaller batch', cause });
  }
  return new TsrtError('MODEL_UNSUPPORTED', "onnxruntime can't run the model on these inputs", {
    details: [message],
    fix: 'check that the inputs are what the model expects',
    cause,
  });
}
