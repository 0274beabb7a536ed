/** The devices that onnxruntime's execution providers run on, described well enough to tell which records compare. */
import type { Backend, DeviceInfo } from '../backend.ts';
import { cpuDevice } from '../cpu.ts';
import { matchDevice } from '../match.ts';
import { loadOrt } from './library.ts';
import { ORT_OPTIONS, type Provider } from './options.ts';

/**
 * The device behind a provider. onnxruntime does not name the GPU it takes, so that the slug names the provider and the
 * machine's processor: records of one machine compare with each other.
 */
export function deviceOf(provider: Provider): DeviceInfo {
  const cpu = cpuDevice();
  if (provider === 'cpu') return cpu;
  return {
    slug: `${provider}-on-${cpu.slug}`,
    kind: 'gpu',
    description: `the GPU that onnxruntime's ${provider} provider takes, on ${cpu.description}`,
    properties: { ...cpu.properties, provider },
  };
}

/**
 * Version and bundled providers. GPU providers are only listed: whether there is a GPU shows when an engine is loaded. A name may
 * mean the processor or what stands behind a bundled provider; which of them an engine takes is its option `provider`.
 */
export const probe: Backend['probe'] = async (wanted) => {
  const ort = await loadOrt();
  const providers = ort.listSupportedBackends().map(({ name, bundled }) => (bundled ? name : `${name} (not bundled)`));
  const bundled = ORT_OPTIONS.provider.choices.filter((provider) => ort.listSupportedBackends().some(({ name, bundled: here }) => here && name === provider));
  const all = ['cpu' as const, ...bundled.filter((provider) => provider !== 'cpu')].map(deviceOf);
  const device = wanted === undefined ? all[0]! : all[matchDevice(wanted, all, 'onnxruntime')]!;
  return {
    status: 'available',
    version: ort.env.versions.node ?? 'unknown',
    devices: [{ ...device, properties: { ...device.properties, providers: providers.join(', ') } }],
  };
};
