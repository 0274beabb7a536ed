/** Whether a backend is there, and which of its devices is meant. One whose probe throws is not: a broken driver or plugin must hide nothing else. */
import type { Availability, Backend } from '../backends/backend.ts';
import { reportError, TsrtError } from '../errors.ts';

/** With a device: of that one alone. Rejects with USAGE where the backend has none of that name. */
export async function probeBackend(backend: Backend, device?: string): Promise<Availability> {
  try {
    const availability = await backend.probe(device);
    if (device === undefined || availability.status === 'unavailable') return availability;
    return { ...availability, chosen: availability.devices[0]!.slug };
  } catch (error) {
    if (device !== undefined && error instanceof TsrtError && error.code === 'USAGE') throw error;
    const { message, fix } = reportError(error);
    return { status: 'unavailable', reason: message, fix: fix ?? 'see the reason' };
  }
}

/** Slug of the device that is meant, by backend; a backend that is not in it takes its first. */
export type ChosenDevices = ReadonlyMap<string, string>;

/**
 * The devices of a name that was asked for, in all backends that have one: in a comparison of two backends the name is usually one
 * backend's. Throws USAGE with every backend's choices where none has it, or where an index is given and there are several.
 */
export async function chooseDevices(wanted: string | undefined, backends: readonly Backend[]): Promise<ChosenDevices> {
  const chosen = new Map<string, string>();
  if (wanted === undefined) return chosen;
  if (/^\d+$/.test(wanted) && backends.length > 1) {
    throw new TsrtError('USAGE', `the index ${wanted} is ambiguous between ${backends.map(({ name }) => name).join(' and ')}`, { fix: 'give the device by its name, as doctor shows it' });
  }
  const refusals: string[] = [];
  for (const backend of backends) {
    try {
      const availability = await probeBackend(backend, wanted);
      if (availability.status === 'available') chosen.set(backend.name, availability.chosen!);
      else refusals.push(`${backend.name}: ${availability.reason}. ${availability.fix}`);
    } catch (error) {
      const { message, fix } = reportError(error);
      refusals.push([message, fix].filter(Boolean).join('. '));
    }
  }
  if (chosen.size > 0) return chosen;
  throw new TsrtError('USAGE', `there is no device '${wanted}'`, { details: refusals, fix: 'see `tsrt-bench doctor` for the devices there are' });
}

/** As {@link probeBackend}, each backend once: a probe may open a driver. */
export function createProbe(devices: ChosenDevices = new Map()): (backend: Backend) => Promise<Availability> {
  const answers = new Map<Backend, Promise<Availability>>();
  return (backend) => {
    const answer = answers.get(backend) ?? probeBackend(backend, devices.get(backend.name));
    answers.set(backend, answer);
    return answer;
  };
}

/** The slug to hand to a backend's build, load and environment; undefined: its first device, which nobody had to name. */
export function deviceOf(availability: Availability): string | undefined {
  return availability.status === 'available' ? availability.chosen : undefined;
}
