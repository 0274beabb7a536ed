/** How many threads a session gets where nobody says. */
import { cpus } from 'node:os';
import { availableCores } from '../../system.ts';
import type { ReferenceSource } from '../backend.ts';

/**
 * `intraOpNumThreads` for a number that was asked for, 0 being none. onnxruntime's own choice, one thread per physical core, is of the host:
 * in a container with fewer they wait for each other by spinning (ResNet-50 on 2 cores: 92 times slower with 128 threads).
 */
export function sessionThreads(asked: number, granted = availableCores(), host = cpus().length): number {
  return asked === 0 && granted < host ? granted : asked;
}

export function referenceThreads({ allCores = false }: ReferenceSource): number {
  return allCores ? sessionThreads(0) : 1;
}
