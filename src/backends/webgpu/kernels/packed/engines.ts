/** The engine that a tactic names. */
import type { Engine, Geometry } from './engine.ts';
import { lanesEngine } from './lanes.ts';
import { emulatedEngine, matrixEngine } from './matrix.ts';

export function engineOf(geometry: Geometry): Engine {
  switch (geometry.tactic.engine) {
    case 'matrix':
      return matrixEngine(geometry);
    case 'emulated':
      return emulatedEngine(geometry);
    case 'lanes':
      return lanesEngine(geometry);
    default:
      return geometry.tactic.engine satisfies never;
  }
}
