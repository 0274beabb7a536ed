/** Whether a backend is there. One whose probe throws is not: a broken driver or plugin must hide nothing else. */
import type { Availability, Backend } from '../backends/backend.ts';
import { reportError } from '../errors.ts';

export async function probeBackend(backend: Backend): Promise<Availability> {
  try {
    return await backend.probe();
  } catch (error) {
    const { message, fix } = reportError(error);
    return { status: 'unavailable', reason: message, fix: fix ?? 'see the reason' };
  }
}

/** As {@link probeBackend}, each backend once: a probe may open a driver. */
export function createProbe(): (backend: Backend) => Promise<Availability> {
  const answers = new Map<Backend, Promise<Availability>>();
  return (backend) => {
    const answer = answers.get(backend) ?? probeBackend(backend);
    answers.set(backend, answer);
    return answer;
  };
}
