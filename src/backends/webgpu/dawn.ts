/**
 * WebGPU in Node: Dawn, through the npm package `webgpu`.
 *
 * Three facts shape this file. The object that `create` returns must stay referenced as long as the process uses the GPU:
 * when it is collected, the process dies. Dawn opens the Vulkan loader by its bare name when an instance is made, so a
 * loader that is not on the library path must already be in the process by then. Dawn lists adapters only in the message of the
 * error it gives for an adapter that does not exist.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { TsrtError } from '../../errors.ts';
import { paceTurns } from './pace.ts';
import { findSwiftshader, SWIFTSHADER, type Swiftshader } from './swiftshader.ts';

/** Kernels run without bounds checks, zeroing of workgroup memory and the definition of integer divisions by zero and of remainders of negative numbers: faster, for engines whose origin is trusted. */
const UNCHECKED_TOGGLES = ['disable_robustness', 'disable_workgroup_init', 'disable_polyfills_on_integer_div_and_mod'] as const;

export interface DawnOptions {
  /** Part of an adapter's name, as Dawn prints it; undefined: the system's first. */
  readonly adapter?: string | undefined;
  readonly unchecked?: boolean;
  /** Dawn's null backend: validates everything, runs nothing. */
  readonly validateOnly?: boolean;
  /** Use SwiftShader, not the system's drivers. */
  readonly swiftshader?: Swiftshader | undefined;
}

interface DawnPackage {
  readonly create: (flags: string[]) => GPU;
  readonly globals: object;
}

let dawn: DawnPackage | undefined;

/** Instances by their flags, kept for the life of the process. */
const instances = new Map<string, GPU>();

/** Version of the `webgpu` package. */
export function dawnVersion(): string {
  const path = createRequire(import.meta.url).resolve('webgpu/package.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

function flagsOf(options: DawnOptions): string[] {
  const enabled = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia', ...(options.unchecked ? UNCHECKED_TOGGLES : [])];
  return [
    ...(options.validateOnly ? ['backend=null'] : []),
    ...(options.adapter === undefined ? [] : [`adapter=${options.adapter}`]),
    `enable-dawn-features=${enabled.join(',')}`,
    // Quantized timestamps tick in steps of 65,536 ns.
    'disable-dawn-features=timestamp_quantization',
  ];
}

/** Toggles that change results or times, for the record. */
export function togglesOf(options: DawnOptions): string {
  return flagsOf(options).filter((flag) => flag.includes('dawn-features')).join(' ');
}

/** An adapter, or undefined where there is none. Throws TsrtError BACKEND_UNAVAILABLE where Dawn itself can't be loaded. */
export async function requestAdapter(options: DawnOptions): Promise<GPUAdapter | undefined> {
  const request = async (): Promise<GPUAdapter | undefined> => {
    const gpu = instance(options);
    return (await gpu.requestAdapter({ powerPreference: 'high-performance' })) ?? undefined;
  };
  return options.swiftshader ? withSwiftshader(options.swiftshader, request) : request();
}

function instance(options: DawnOptions): GPU {
  const flags = flagsOf(options);
  const key = [...flags, options.swiftshader?.icd].join(' ');
  const known = instances.get(key);
  if (known) return known;
  const made = loadDawn().create(flags);
  instances.set(key, made);
  return made;
}

function loadDawn(): DawnPackage {
  if (dawn) return dawn;
  try {
    dawn = createRequire(import.meta.url)('webgpu') as DawnPackage;
  } catch (error) {
    throw new TsrtError('BACKEND_UNAVAILABLE', 'the npm package webgpu (Dawn) could not be loaded', {
      fix: `install it for ${process.platform} ${process.arch}: npm install webgpu`,
      cause: error,
    });
  }
  // GPUBufferUsage and the like, which browsers have as globals.
  Object.assign(globalThis, dawn.globals);
  paceTurns();
  return dawn;
}

/** Names of the adapters that Dawn sees. */
export async function listAdapters(options: Omit<DawnOptions, 'adapter'>): Promise<string[]> {
  try {
    await requestAdapter({ ...options, adapter: 'tsrt-bench lists adapters' });
    return [];
  } catch (error) {
    if (error instanceof TsrtError || !(error instanceof Error)) throw error;
    return [...new Set([...error.message.matchAll(/name: '([^']*)'/g)].map((match) => match[1]!))];
  }
}

let hasLoader: boolean | undefined;

/**
 * Whether the system's Vulkan loader can be opened; Dawn needs it on Linux. Elsewhere Dawn brings what it needs. Asked once: after
 * SwiftShader's own loader is in the process, it would be taken for the system's.
 */
export function hasVulkanLoader(): boolean {
  hasLoader ??= process.platform !== 'linux' || openLibrary('libvulkan.so.1');
  return hasLoader;
}

/** dlopen flags: keep the library in the process although it is no Node addon (RTLD_NODELETE of dlfcn.h on Linux). */
const KEEP_LOADED = constants.dlopen?.RTLD_NOW === undefined ? 0 : constants.dlopen.RTLD_NOW | 0x1000;

/**
 * Loads a shared library that is not an addon. Node opens it, misses the addon's entry point and throws "did not
 * self-register"; the library stays, and later calls to dlopen by its soname find it.
 */
function openLibrary(path: string): boolean {
  try {
    process.dlopen({ exports: {} }, path, KEEP_LOADED);
    return true;
  } catch (error) {
    return error instanceof Error && error.message.includes('did not self-register');
  }
}

/** Runs `request` while the Vulkan loader's environment names SwiftShader alone. */
async function withSwiftshader<T>(swiftshader: Swiftshader, request: () => Promise<T>): Promise<T> {
  if (!hasVulkanLoader()) openLibrary(swiftshader.loader);
  const saved = { VK_ICD_FILENAMES: process.env['VK_ICD_FILENAMES'], VK_DRIVER_FILES: process.env['VK_DRIVER_FILES'] };
  Object.assign(process.env, { VK_ICD_FILENAMES: swiftshader.icd, VK_DRIVER_FILES: swiftshader.icd });
  try {
    return await request();
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/**
 * The device that TSRT_BENCH_SWIFTSHADER puts in place of the default: a switch in the manner of a driver's own, for tests and
 * for programs that can't pass a name.
 */
export function defaultDevice(): string | undefined {
  const value = process.env['TSRT_BENCH_SWIFTSHADER'];
  return value !== undefined && value !== '' && value !== '0' ? SWIFTSHADER : undefined;
}

/** SwiftShader, or TsrtError BACKEND_UNAVAILABLE that says where to get it. */
export async function requireSwiftshader(): Promise<Swiftshader> {
  const found = await findSwiftshader();
  if (found) return found;
  throw new TsrtError('BACKEND_UNAVAILABLE', 'SwiftShader was asked for and is not installed', {
    fix: 'npm install --save-dev @sparticuz/chromium (Linux x64), which carries it.',
  });
}
