/** Finding adapters in Node: which there are, which one is meant, and why there is none. */
import { totalmem } from 'node:os';
import { TsrtError } from '../../errors.ts';
import type { Availability, DeviceInfo } from '../backend.ts';
import { type DawnOptions, dawnVersion, hasVulkanLoader, listAdapters, requestAdapter, requireSwiftshader, swiftshaderWanted, togglesOf } from './dawn.ts';
import { describeAdapter, type DriverFacts, openDevice, type WebgpuDevice } from './device.ts';
import type { DeviceProfile } from './profile.ts';

/** The name that opts into SwiftShader wherever a device can be named. */
const SWIFTSHADER = 'swiftshader';

export interface DeviceChoice {
  /** A slug, part of an adapter's name, or its index in the list; undefined: the first. */
  readonly wanted: string | undefined;
  readonly unchecked: boolean;
}

/** Opens the device that is meant. Throws TsrtError BACKEND_UNAVAILABLE where there is none, USAGE where the name fits none. */
export async function chooseDevice({ wanted, unchecked }: DeviceChoice): Promise<WebgpuDevice> {
  const { adapter, options } = await chooseAdapter(wanted, unchecked);
  const open = await openDevice(adapter, factsOf(options));
  return { ...open, profile: { ...open.profile, ...knownMemory(open.info) } };
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

async function chooseAdapter(wanted: string | undefined, unchecked: boolean): Promise<{ adapter: GPUAdapter; options: DawnOptions }> {
  const base = await baseOptions(wanted === SWIFTSHADER, unchecked);
  const first = await requestAdapter(base);
  if (!first) throw unavailable();
  if (wanted === undefined || wanted === describeAdapter(first).slug) return { adapter: first, options: base };
  const names = await listAdapters(base);
  for (const [index, name] of names.entries()) {
    const options = { ...base, adapter: name };
    const adapter = await requestAdapter(options);
    if (!adapter) continue;
    const isMeant = wanted === String(index) || wanted === describeAdapter(adapter).slug || name.toLowerCase().includes(wanted.toLowerCase());
    if (isMeant) return { adapter, options };
  }
  throw new TsrtError('USAGE', `no WebGPU adapter is called '${wanted}'`, {
    fix: `There ${names.length === 1 ? 'is' : 'are'}: ${names.map((name, index) => `${index} ${name}`).join(', ')}.`,
  });
}

async function baseOptions(namesSwiftshader: boolean, unchecked: boolean): Promise<DawnOptions> {
  const swiftshader = namesSwiftshader || swiftshaderWanted() ? await requireSwiftshader() : undefined;
  if (!swiftshader && !hasVulkanLoader()) throw unavailable();
  return { swiftshader, unchecked };
}

function unavailable(): TsrtError {
  const { reason, fix } = whyNone();
  return new TsrtError('BACKEND_UNAVAILABLE', `webgpu: ${reason}`, { fix });
}

function whyNone(): { readonly reason: string; readonly fix: string } {
  const software = 'or set TSRT_BENCH_SWIFTSHADER=1 for the slow software adapter of the npm package @sparticuz/chromium';
  if (!hasVulkanLoader()) {
    return { reason: 'the Vulkan loader libvulkan.so.1 is not installed', fix: `install it (Debian, Ubuntu: apt install libvulkan1), ${software}` };
  }
  return {
    reason: 'Dawn finds no adapter it can use',
    fix: `Install the GPU's driver (on Linux its Vulkan ICD file must be found: see VK_DRIVER_FILES), ${software}.`,
  };
}

/** Every adapter, for `doctor`. */
export async function probe(): Promise<Availability> {
  try {
    const base = await baseOptions(false, true);
    const devices: DeviceInfo[] = [];
    for (const name of await listAdapters(base)) {
      const options = { ...base, adapter: name };
      const adapter = await requestAdapter(options);
      if (adapter) devices.push(describeAdapter(adapter, factsOf(options)));
    }
    if (devices.length === 0) return { status: 'unavailable', ...whyNone() };
    return { status: 'available', version: dawnVersion(), devices };
  } catch (error) {
    if (!(error instanceof TsrtError)) throw error;
    return { status: 'unavailable', reason: error.message, fix: error.fix ?? '' };
  }
}
