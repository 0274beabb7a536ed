/** The devices that onnxruntime's execution providers run on, described well enough to tell which records compare. */
import { arch, cpus, totalmem } from 'node:os';
import type { Backend, DeviceInfo } from '../backend.ts';
import { matchDevice } from '../match.ts';
import { loadOrt } from './library.ts';
import { ORT_OPTIONS, type Provider } from './options.ts';

/** The processor: `cpu-<model>-<n>c`, n being the logical cores that the process may see. */
export function cpuDevice(): DeviceInfo {
  const model = (cpus()[0]?.model ?? 'unknown').trim();
  const cores = cpus().length;
  return {
    slug: `cpu-${slugOf(model)}-${cores}c`,
    kind: 'cpu',
    description: `${model}, ${cores} logical cores`,
    properties: { model, logicalCores: String(cores), architecture: arch(), memoryBytes: String(totalmem()) },
  };
}

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

/** Lower-case letters, digits and dashes; marketing words that name no model are dropped. */
function slugOf(model: string): string {
  return model
    .toLowerCase()
    .replace(/\((r|tm)\)|@.*|\b(cpu|processor|\d+-core)\b/g, ' ')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}
