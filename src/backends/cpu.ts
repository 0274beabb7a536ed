/** This machine's processor as a device. By itself, so that the public types that name it lead to no library's. */
import { arch, cpus, totalmem } from 'node:os';
import type { DeviceInfo } from './backend.ts';

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

/** Lower-case letters, digits and dashes; marketing words that name no model are dropped. */
function slugOf(model: string): string {
  return model
    .toLowerCase()
    .replace(/\((r|tm)\)|@.*|\b(cpu|processor|\d+-core)\b/g, ' ')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}
