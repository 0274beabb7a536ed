/**
 * SwiftShader: a Vulkan driver that runs on the CPU, right and slow. It is found in the npm package `@sparticuz/chromium`
 * where that is installed, and unpacked once to a cache folder.
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import envPaths from 'env-paths';
import { TsrtError } from '../../errors.ts';

export interface Swiftshader {
  readonly folder: string;
  /** The ICD file that names the driver to the Vulkan loader. */
  readonly icd: string;
  /** The Vulkan loader that comes with it. */
  readonly loader: string;
}

/** The name that opts into SwiftShader wherever a device can be named. */
export const SWIFTSHADER = 'swiftshader';

const ARCHIVE = ['bin', 'swiftshader.tar.br'] as const;
const ICD = 'vk_swiftshader_icd.json';
const LOADER = 'libvulkan.so.1';
const DRIVER = 'libvk_swiftshader.so';

/** The package's archive, where the package is installed; it holds Linux x64 binaries only. */
function findArchive(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  const folders = createRequire(import.meta.url).resolve.paths('@sparticuz/chromium') ?? [];
  return folders.map((folder) => join(folder, '@sparticuz/chromium', ...ARCHIVE)).find((path) => existsSync(path));
}

/** Whether its package is installed. */
export function hasSwiftshader(): boolean {
  return findArchive() !== undefined;
}

/** SwiftShader, unpacked; undefined where its package is not installed. Throws BACKEND_UNAVAILABLE where the cache can't hold it. */
export async function findSwiftshader(): Promise<Swiftshader | undefined> {
  const archive = findArchive();
  if (!archive) return undefined;
  const { version } = JSON.parse(await readFile(join(dirname(dirname(archive)), 'package.json'), 'utf8')) as { version: string };
  const folder = join(envPaths('tsrt-bench', { suffix: '' }).cache, 'swiftshader', version);
  const found: Swiftshader = { folder, icd: join(folder, ICD), loader: join(folder, LOADER) };
  if (!existsSync(found.icd)) {
    await unpack(archive, folder).catch((cause: unknown) => {
      throw new TsrtError('BACKEND_UNAVAILABLE', `SwiftShader can't be unpacked: ${cause instanceof Error ? cause.message : String(cause)}`, {
        place: folder,
        fix: 'make that folder one that can be written, or name another cache with XDG_CACHE_HOME',
        cause,
      });
    });
  }
  return found;
}

/** Unpacks beside the folder and renames, so that processes that do it at once end with one whole folder. */
async function unpack(archive: string, folder: string): Promise<void> {
  const files = readTar(brotliDecompressSync(await readFile(archive)));
  const staging = `${folder}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  for (const name of [LOADER, DRIVER, ICD]) {
    const file = files.get(name);
    if (!file) throw new Error(`${archive} holds no ${name}`);
    await writeFile(join(staging, name), file);
    await chmod(join(staging, name), 0o755);
  }
  await rename(staging, folder).catch(async (error: unknown) => {
    await rm(staging, { recursive: true, force: true });
    if (!existsSync(join(folder, ICD))) throw error;
  });
}

/** Regular files of a ustar archive, by base name (POSIX.1-1988: 512-byte headers, size in octal at 124). */
export function readTar(bytes: Uint8Array): Map<string, Uint8Array> {
  const text = (from: number, length: number): string =>
    new TextDecoder('latin1').decode(bytes.subarray(from, from + length)).replace(/\0.*$/s, '').trim();
  const files = new Map<string, Uint8Array>();
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (!Number.isSafeInteger(size) || at + 512 + size > bytes.length) throw new Error('the tar archive is cut off');
    const regular = bytes[at + 156] === 0x30 || bytes[at + 156] === 0;
    if (regular) files.set(basename(text(at, 100)), bytes.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** What a process needs in its environment, before it starts, to see only this driver. */
export function swiftshaderEnvironment(found: Swiftshader): Readonly<Record<string, string>> {
  const path = process.env['LD_LIBRARY_PATH'];
  return {
    VK_ICD_FILENAMES: found.icd,
    VK_DRIVER_FILES: found.icd,
    LD_LIBRARY_PATH: path ? `${found.folder}:${path}` : found.folder,
  };
}
