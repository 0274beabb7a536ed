/** Finding adapters in Node: which there are, which one is meant, and why there is none. */
import { totalmem } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import { TsrtError } from '../../errors.ts';
import type { Availability, DeviceInfo } from '../backend.ts';
import { matchDevice } from '../match.ts';
import { type DawnOptions, dawnVersion, defaultDevice, hasVulkanLoader, listAdapters, requestAdapter, requireSwiftshader, togglesOf } from './dawn.ts';
import { describeAdapter, type DriverFacts, openDevice, type WebgpuDevice } from './device.ts';
import { noteAnswer, noteSubmit } from './pace.ts';
import type { DeviceProfile } from './profile.ts';
import { hasSwiftshader, SWIFTSHADER } from './swiftshader.ts';

export interface DeviceChoice {
  /** A slug, part of an adapter's name, or its index in the list, SwiftShader last; undefined: the system's first. */
  readonly wanted: string | undefined;
  readonly unchecked: boolean;
}

/**
 * Devices that nobody holds, by adapter and toggles. They are used again, since a device leaves something behind however it is
 * ended: Dawn (webgpu 0.6.2) keeps a thread of each one that compiled a pipeline.
 */
const idle = new Map<string, WebgpuDevice[]>();

/**
 * Opens the device that is meant, for the caller alone; `destroy` gives it back. Throws TsrtError BACKEND_UNAVAILABLE where there is
 * none, USAGE where the name fits none.
 */
export async function chooseDevice({ wanted, unchecked }: DeviceChoice): Promise<WebgpuDevice> {
  const { adapter, options } = await chooseAdapter(wanted, unchecked);
  const key = JSON.stringify([options.adapter, options.swiftshader?.icd, unchecked]);
  const open = takeIdle(key) ?? (await openDevice(adapter, factsOf(options)));
  let held = true;
  return {
    ...open,
    submitted: noteSubmit,
    answered: noteAnswer,
    profile: { ...open.profile, ...knownMemory(open.info) },
    destroy() {
      if (held) void giveBack(key, open);
      held = false;
    },
  };
}

function takeIdle(key: string): WebgpuDevice | undefined {
  for (let open = idle.get(key)?.pop(); open; open = idle.get(key)?.pop()) if (isSound(open)) return open;
  return undefined;
}

/** What its last holder submitted is waited for, so that an error of it is nobody else's. */
async function giveBack(key: string, open: WebgpuDevice): Promise<void> {
  await open.device.queue.onSubmittedWorkDone().catch(() => undefined);
  if (isSound(open)) idle.set(key, [...(idle.get(key) ?? []), open]);
}

/** Ends a device that is lost or had an error. */
function isSound(open: WebgpuDevice): boolean {
  try {
    open.check();
    return true;
  } catch {
    open.destroy();
    return false;
  }
}

/** A software adapter keeps its buffers in the machine's memory. */
export function knownMemory(info: DeviceInfo): Pick<DeviceProfile, 'memoryBytes'> {
  return info.kind === 'cpu' ? { memoryBytes: totalmem() } : {};
}

/** What the adapter that is meant says of itself, without opening it. */
export async function describeChosen({ wanted, unchecked }: DeviceChoice): Promise<{ adapter: GPUAdapter; info: DeviceInfo }> {
  const { adapter, options } = await chooseAdapter(wanted, unchecked);
  return { adapter, info: describeAdapter(adapter, factsOf(options)) };
}

function factsOf(options: DawnOptions): DriverFacts {
  return { webgpu: dawnVersion(), toggles: togglesOf(options) };
}

/** An adapter and how to ask Dawn for it. */
interface Chosen {
  readonly adapter: GPUAdapter;
  readonly options: DawnOptions;
}

/**
 * SwiftShader is opened where it is named, by its slug at once: a worker for it may have an environment in which no other driver
 * is found. The system's drivers are asked for any other name first.
 */
async function chooseAdapter(named: string | undefined, unchecked: boolean): Promise<Chosen> {
  const wanted = named ?? defaultDevice();
  if (wanted === SWIFTSHADER) return openSwiftshader(unchecked);
  const first = hasVulkanLoader() ? await requestAdapter({ unchecked }) : undefined;
  if (first && (wanted === undefined || wanted === describeAdapter(first).slug)) return { adapter: first, options: { unchecked } };
  if (wanted === undefined) throw unavailable();
  const all = [...(await systemAdapters(unchecked)), ...(hasSwiftshader() ? [await openSwiftshader(unchecked)] : [])];
  if (all.length === 0) throw unavailable();
  return all[matchDevice(wanted, all.map(describe), 'webgpu')]!;
}

async function openSwiftshader(unchecked: boolean): Promise<Chosen> {
  const options = { swiftshader: await requireSwiftshader(), unchecked };
  const adapter = await requestAdapter(options);
  if (!adapter) throw new TsrtError('BACKEND_UNAVAILABLE', 'SwiftShader is installed, but Dawn gives no adapter for it', { fix: isMainThread ? 'delete the folder swiftshader in the cache, and try again' : IN_A_THREAD });
  return { adapter, options };
}

/** The driver is named in the environment, of which a worker thread has a copy that native code does not see. */
const IN_A_THREAD = 'open it in the main thread, or in a process of its own: a worker thread cannot name the driver to it';

/** Every adapter of the system's drivers, in Dawn's order, which puts the default first. */
async function systemAdapters(unchecked: boolean): Promise<Chosen[]> {
  if (!hasVulkanLoader()) return [];
  const found: Chosen[] = [];
  for (const name of await listAdapters({ unchecked })) {
    const options = { unchecked, adapter: name };
    const adapter = await requestAdapter(options);
    if (adapter) found.push({ adapter, options });
  }
  return found;
}

function describe({ adapter, options }: Chosen): DeviceInfo {
  return describeAdapter(adapter, factsOf(options));
}

function unavailable(): TsrtError {
  const { reason, fix } = whyNone();
  return new TsrtError('BACKEND_UNAVAILABLE', `webgpu: ${reason}`, { fix });
}

function whyNone(): { readonly reason: string; readonly fix: string } {
  const software = 'or name the slow software adapter of the npm package @sparticuz/chromium: --device swiftshader';
  if (!hasVulkanLoader()) {
    return { reason: 'the Vulkan loader libvulkan.so.1 is not installed', fix: `install it (Debian, Ubuntu: apt install libvulkan1), ${software}` };
  }
  return {
    reason: 'Dawn finds no adapter it can use',
    fix: `Install the GPU's driver (on Linux its Vulkan ICD file must be found: see VK_DRIVER_FILES), ${software}.`,
  };
}

/** Every adapter that is used without being named, or the one that is. Rejects with USAGE where the name fits none. */
export async function probe(named?: string): Promise<Availability> {
  const wanted = named ?? defaultDevice();
  try {
    const devices = wanted === undefined ? (await systemAdapters(true)).map(describe) : [describe(await chooseAdapter(wanted, true))];
    if (devices.length === 0) return { status: 'unavailable', ...whyNone() };
    const optional = wanted === undefined && hasSwiftshader() ? { optional: [SWIFTSHADER] } : {};
    return { status: 'available', version: dawnVersion(), devices, ...optional };
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code === 'USAGE') throw error;
    return { status: 'unavailable', reason: error.message, fix: error.fix ?? '' };
  }
}
