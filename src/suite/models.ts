/**
 * Where a suite's model comes from, in order: the file that the user names, the suite's own file, the cache, the pinned
 * download, the builder. Whatever stands in says so.
 */
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { TsrtError } from '../errors.ts';
import { BUILDERS } from './builders/table.ts';
import { isFile, sha256File, withFileLock, writeCache } from './cache.ts';
import type { DownloadOptions } from './download.ts';
import type { Download, ModelSource, Suite } from './schema.ts';

export type ModelProgress =
  | { readonly step: 'download' | 'build'; readonly doneBytes: number; readonly totalBytes: number }
  /** Another process is making the same file. */
  | { readonly step: 'waiting' };

export interface ModelRequest {
  /** The user's file; wins over everything. */
  readonly modelFile?: string | undefined;
  readonly cacheFolder: string;
  readonly onProgress?: ((progress: ModelProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For tests and slow networks. */
  readonly network?: Pick<DownloadOptions, 'connectTimeoutMs' | 'stallTimeoutMs' | 'retryPauseMs'> | undefined;
}

export interface ResolvedModel {
  readonly name: string;
  /** An ONNX file. */
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  /** `file …`, a URL, or `builder resnet50 (seed 1)`; goes into records. */
  readonly source: string;
  /** Seeded weights: accuracy only compares variants with each other. */
  readonly untrained: boolean;
  /** Things the user should know, such as why the builder stands in. */
  readonly notices: readonly string[];
}

/** Throws MODEL_NOT_FOUND for a file that is not there, MODEL_DOWNLOAD where no source is left or the bytes are wrong. */
export async function resolveModel(suite: Pick<Suite, 'model' | 'folder'>, request: ModelRequest): Promise<ResolvedModel> {
  const { model } = suite;
  if (request.modelFile !== undefined) {
    return fromFile(basename(request.modelFile).replace(/\.onnx$/, ''), resolve(request.modelFile), '--model');
  }
  if (model.file !== undefined) return fromFile(model.name, resolve(suite.folder, model.file), 'model.file');
  if (model.download === undefined) return fromBuilder(model, request, []);

  const target = join(request.cacheFolder, 'models', `${model.download.sha256.slice(0, 16)}-${safeName(model.name)}.onnx`);
  const fetched = await fromDownload(model.download, target, request);
  if (fetched.status === 'ready') {
    return {
      name: model.name,
      path: target,
      sha256: model.download.sha256,
      bytes: model.download.bytes,
      source: model.download.urls[0]!,
      untrained: false,
      notices: fetched.notices,
    };
  }
  if (model.builder === undefined) throw unreachable(fetched.reasons);
  return fromBuilder(model, request, [
    `the model could not be downloaded (${fetched.reasons.join('; ')}): a stand-in of the same architecture with seeded weights is used, ` +
      'so accuracy only compares variants with each other; pass --model FILE for the real one',
  ]);
}

async function fromFile(name: string, path: string, key: string): Promise<ResolvedModel> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new TsrtError('MODEL_NOT_FOUND', info ? 'the model is not a file' : 'there is no such model file', {
      place: path,
      fix: key === '--model' ? 'pass an ONNX file with --model' : `correct ${key} in the suite, or pass --model FILE`,
    });
  }
  const sha256 = await sha256File(path).catch((cause: unknown) => {
    throw new TsrtError('MODEL_NOT_FOUND', "the model file can't be read", { place: path, fix: 'check its permissions', cause });
  });
  return { name, path, sha256, bytes: info.size, source: `file ${basename(path)}`, untrained: false, notices: [] };
}

type Fetched =
  | { readonly status: 'ready'; readonly notices: readonly string[] }
  | { readonly status: 'unreachable'; readonly reasons: readonly string[] };

/** The pinned file in the cache, checked; downloaded where it is not there or is not what it should be. */
async function fromDownload(pinned: Download, target: string, request: ModelRequest): Promise<Fetched> {
  const { onProgress, signal, network } = request;
  // A file is renamed into place whole, so that reading needs no lock; a cache that can't be written may still serve.
  if ((await isFile(target)) && (await sha256File(target)) === pinned.sha256) return { status: 'ready', notices: [] };
  return withFileLock(target, lockOptions(request), async (): Promise<Fetched> => {
    const notices: string[] = [];
    if (await isFile(target)) {
      if ((await sha256File(target)) === pinned.sha256) return { status: 'ready', notices };
      await rm(target, { force: true });
      notices.push('the cached model was damaged and has been fetched again');
    }
    const { download } = await import('./download.ts');
    const result = await download(pinned, target, {
      ...network,
      signal,
      onProgress: (doneBytes, totalBytes) => onProgress?.({ step: 'download', doneBytes, totalBytes }),
    });
    switch (result.status) {
      case 'downloaded':
        return { status: 'ready', notices };
      case 'unreachable':
        return result;
      case 'mismatch':
        throw new TsrtError('MODEL_DOWNLOAD', `the download is not the model that the suite pins: ${result.reasons[0]}`, {
          details: result.reasons.slice(1),
          fix: 'nothing of it was kept; check for a proxy that replaces downloads, or pass --model FILE',
        });
      default:
        return result satisfies never;
    }
  });
}

function unreachable(reasons: readonly string[]): TsrtError {
  return new TsrtError('MODEL_DOWNLOAD', `the model can't be downloaded: ${reasons[0] ?? 'no mirror'}`, {
    details: reasons.slice(1),
    fix: 'check the network (HTTPS_PROXY is honoured), or pass --model FILE',
  });
}

/** Built once per version, seed and options; the file is as long as planned or it is built again. */
async function fromBuilder(model: ModelSource, request: ModelRequest, notices: readonly string[]): Promise<ResolvedModel> {
  const { builder } = model;
  if (builder === undefined) throw new Error('the suite schema lets no model pass without a source');
  const { name, seed, classes } = builder;
  const { version, plan } = BUILDERS[name];
  const planned = plan({ seed, classes });
  const key = [name, `v${version}`, `seed${seed}`, ...(classes === undefined ? [] : [`c${classes}`])].join('-');
  const path = join(request.cacheFolder, 'models', `built-${key}.onnx`);
  const isWhole = async () => (await stat(path).catch(() => undefined))?.size === planned.byteLength;
  if (!(await isWhole())) {
    await withFileLock(path, lockOptions(request), async () => {
      if (!(await isWhole())) await writeChunks(path, planned.chunks(), planned.byteLength, request);
    });
  }
  return {
    name: model.name,
    path,
    sha256: await sha256File(path),
    bytes: planned.byteLength,
    source: `builder ${name} (version ${version}, seed ${seed})`,
    untrained: true,
    notices,
  };
}

async function writeChunks(path: string, chunks: Iterable<Uint8Array>, totalBytes: number, request: ModelRequest): Promise<void> {
  const folder = dirname(path);
  // The lock is held: temporary files of this name were left by processes that died.
  for (const entry of await readdir(folder)) {
    if (entry.startsWith(`${basename(path)}.`) && entry.endsWith('.tmp')) await rm(join(folder, entry), { force: true });
  }
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = await writeCache(() => open(temporary, 'w'));
    try {
      let doneBytes = 0;
      for (const chunk of chunks) {
        request.signal?.throwIfAborted();
        await writeCache(() => file.writeFile(chunk));
        doneBytes += chunk.length;
        request.onProgress?.({ step: 'build', doneBytes, totalBytes });
      }
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

function lockOptions({ onProgress, signal }: ModelRequest) {
  return { signal, onWait: () => onProgress?.({ step: 'waiting' }) };
}

function safeName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]+/g, '_');
}
