import type { Adapter, AdapterInfo } from './globals.ts';

/** One shape of subgroup matrices: result[m, n] += left[m, k] · right[k, n]. */
export interface MatrixConfig {
  readonly element: 'f16' | 'i8';
  readonly result: 'f32' | 'f16' | 'i32';
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * What kernel generation may know of a device: limits and features, as data, so that kernels can be generated for a device
 * that is not there and tested against several.
 */
export interface DeviceProfile {
  readonly maxWorkgroupBytes: number;
  readonly maxInvocations: number;
  readonly maxStorageBuffers: number;
  readonly maxBindingBytes: number;
  readonly maxBufferBytes: number;
  readonly maxWorkgroupsPerDimension: number;
  /** Memory of the whole device, where it is known: WebGPU does not tell, but a software adapter's is the machine's. */
  readonly memoryBytes?: number;
  readonly features: ReadonlySet<string>;
  readonly subgroupSize: { readonly min: number; readonly max: number } | undefined;
  /** Subgroup matrices that kernels can use: f16 summed in f32 or f16, i8 in i32. Empty where the device has none. */
  readonly matrixConfigs: readonly MatrixConfig[];
  /**
   * Workgroups that keep the device busy. WebGPU tells no number of cores; the cost model's default suits a large GPU and
   * costs a small one little.
   */
  readonly busyWorkgroups: number;
  /** Kernels of little code are better here than fast ones: SwiftShader takes seconds to compile a large one. */
  readonly compact: boolean;
}

/** The matrices whose sums are exact (i32) or as wide as sums get (f32); `halves`: those of f16 that are summed in f16. */
export function matricesOf({ matrixConfigs }: Pick<DeviceProfile, 'matrixConfigs'>, element: MatrixConfig['element'], halves = false): readonly MatrixConfig[] {
  return matrixConfigs.filter((config) => config.element === element && (config.result === 'f16') === halves);
}

/** WebGPU's guaranteed limits: kernels made for them run on any adapter. */
export const PORTABLE_PROFILE: DeviceProfile = {
  maxWorkgroupBytes: 16384,
  maxInvocations: 256,
  maxStorageBuffers: 8,
  maxBindingBytes: 134217728,
  maxBufferBytes: 268435456,
  maxWorkgroupsPerDimension: 65535,
  features: new Set(),
  subgroupSize: undefined,
  matrixConfigs: [],
  busyWorkgroups: 256,
  compact: false,
};

/** The profile of an adapter or device. */
export function profileOf(device: Pick<Adapter, 'limits' | 'features' | 'info'>): DeviceProfile {
  const { limits, features, info } = device;
  return {
    maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
    maxInvocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    maxBindingBytes: limits.maxStorageBufferBindingSize,
    maxBufferBytes: limits.maxBufferSize,
    maxWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    features: new Set(features as Iterable<string>),
    subgroupSize: features.has('subgroups') ? { min: info.subgroupMinSize, max: info.subgroupMaxSize } : undefined,
    matrixConfigs: features.has('chromium-experimental-subgroup-matrix') ? matrixConfigsOf(info) : [],
    busyWorkgroups: PORTABLE_PROFILE.busyWorkgroups,
    compact: info.architecture === 'swiftshader',
  };
}

/** As Dawn's experimental extension lists them. */
interface AdapterMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Every shape of subgroup matrices that the adapter lists, of any element type. */
export function adapterMatrixConfigs(info: AdapterInfo): readonly AdapterMatrixConfig[] {
  const { subgroupMatrixConfigs } = info as AdapterInfo & { readonly subgroupMatrixConfigs?: Iterable<AdapterMatrixConfig> };
  return [...(subgroupMatrixConfigs ?? [])];
}

function matrixConfigsOf(info: AdapterInfo): MatrixConfig[] {
  return adapterMatrixConfigs(info).flatMap(({ componentType, resultComponentType, M: m, N: n, K: k }): MatrixConfig[] => {
    if (componentType === 'f16' && (resultComponentType === 'f32' || resultComponentType === 'f16')) return [{ element: 'f16', result: resultComponentType, m, n, k }];
    if (componentType === 'i8' && resultComponentType === 'i32') return [{ element: 'i8', result: 'i32', m, n, k }];
    return [];
  });
}
