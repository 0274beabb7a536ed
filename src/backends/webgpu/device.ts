/**
 * A WebGPU device, opened from an adapter that somebody else found: Dawn in Node (dawn.ts), `navigator.gpu` in a browser.
 * Nothing here knows Node.
 */
import { TsrtError } from '../../errors.ts';
import type { DeviceInfo } from '../backend.ts';
import type { Adapter, AdapterInfo, Device } from './globals.ts';
import { adapterMatrixConfigs, type DeviceProfile, profileOf } from './profile.ts';

/** Features that kernels or profiles can use; each is requested where the adapter has it. */
const WANTED_FEATURES = ['shader-f16', 'subgroups', 'subgroup-size-control', 'timestamp-query', 'chromium-experimental-subgroup-matrix'] as const;

/** Limits that compute kernels run into. The adapter's own are requested: the defaults are far lower. */
const WANTED_LIMITS = [
  'maxStorageBuffersPerShaderStage',
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
] as const;

/** An open WebGPU device with what kernels are generated for. `destroy` ends it, and every session on it. */
export interface WebgpuDevice {
  readonly device: Device;
  readonly info: DeviceInfo;
  readonly profile: DeviceProfile;
  /** Throws TsrtError DEVICE_LOST, or the device's first unexpected error, where there was one. */
  check(): void;
  /** Told after commands were submitted that somebody will wait for. */
  submitted?(): void;
  /** Told when somebody has what was waited for; tells whether it was waited for, that is, looked for in vain before. */
  answered?(): boolean;
  destroy(): void;
}

/** Facts about an adapter that WebGPU does not tell, from whoever opened it: package version, toggles. */
export type DriverFacts = Readonly<Record<string, string>>;

/** Opens a device with every useful feature and the adapter's limits. Takes what `requestAdapter` gives: null is TsrtError BACKEND_UNAVAILABLE. */
export async function openDevice(adapter: Adapter | null | undefined, facts: DriverFacts = {}): Promise<WebgpuDevice> {
  if (!adapter) throw new TsrtError('BACKEND_UNAVAILABLE', 'there is no WebGPU adapter', { fix: 'use a browser that has WebGPU, with hardware acceleration on, or install the driver of the GPU' });
  const device = await adapter.requestDevice({
    label: 'tsrt-bench',
    // The experimental feature is not among the names that the types know.
    requiredFeatures: WANTED_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit]])),
  });
  let destroyed = false;
  let fault: Error | undefined;
  const watch = async (): Promise<void> => {
    const lost = await device.lost;
    if (!destroyed) fault ??= deviceLost(lost.message);
  };
  void watch();
  device.addEventListener('uncapturederror', (event) => {
    fault ??= new Error(`WebGPU: ${(event as GPUUncapturedErrorEvent).error.message}`);
  });
  return {
    device,
    info: describeAdapter(adapter, facts),
    profile: profileOf({ limits: device.limits, features: device.features, info: adapter.info }),
    check() {
      if (fault) throw fault;
    },
    destroy() {
      destroyed = true;
      device.destroy();
    },
  };
}

function deviceLost(message: string): TsrtError {
  return new TsrtError('DEVICE_LOST', `the WebGPU device was lost: ${message || 'no reason given'}`, {
    fix: 'load the engine again. If it happens again, the driver may have reset the device: see its log, or try smaller batches.',
  });
}

/** What the adapter says of itself. */
export function describeAdapter(adapter: Pick<Adapter, 'info' | 'limits' | 'features'>, facts: DriverFacts = {}): DeviceInfo {
  const { info, limits, features } = adapter;
  const software = info.isFallbackAdapter || info.architecture === 'swiftshader';
  const properties: Record<string, string> = {
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    driver: info.description,
    features: [...(features as Iterable<string>)].sort().join(' '),
    subgroups: features.has('subgroups') ? `${info.subgroupMinSize}-${info.subgroupMaxSize}` : 'none',
    subgroupMatrices: matrixConfigs(info),
    ...facts,
  };
  for (const limit of WANTED_LIMITS) properties[limit] = String(limits[limit]);
  return {
    slug: slugOf(info),
    kind: info.device === 'null-backend' ? 'fake' : software ? 'cpu' : 'gpu',
    description: [info.device || info.vendor || 'WebGPU adapter', info.description].filter(Boolean).join(', '),
    properties,
  };
}

/** `nvidia-h200`, `swiftshader`; browsers withhold the device's name and get `nvidia-hopper`. */
function slugOf(info: AdapterInfo): string {
  if (info.architecture === 'swiftshader') return 'swiftshader';
  const name = info.device || `${info.vendor}-${info.architecture}`;
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-+|-+$/g, '') || 'webgpu-adapter';
}

/** `f16>f32 16x16x16 …`, or `none`: the shapes of subgroup matrices (an experimental extension of Dawn's). */
function matrixConfigs(info: AdapterInfo): string {
  return adapterMatrixConfigs(info).map((c) => `${c.componentType}>${c.resultComponentType} ${c.M}x${c.N}x${c.K}`).join(' ') || 'none';
}
