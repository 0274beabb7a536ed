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
  /**
   * Workgroups that keep the device busy. WebGPU tells no number of cores; the cost model's default suits a large GPU and
   * costs a small one little.
   */
  readonly busyWorkgroups: number;
  /** Kernels of little code are better here than fast ones: SwiftShader takes seconds to compile a large one. */
  readonly compact: boolean;
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
  busyWorkgroups: 256,
  compact: false,
};

/** The profile of an adapter or device. */
export function profileOf(device: Pick<GPUAdapter, 'limits' | 'features' | 'info'>): DeviceProfile {
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
    busyWorkgroups: PORTABLE_PROFILE.busyWorkgroups,
    compact: info.architecture === 'swiftshader',
  };
}
