/**
 * What a store of baselines does. It knows names, suites and devices and moves bytes; what the bytes hold is baselines.ts's.
 * Writing is all or nothing: nobody reads half a baseline, and two who write at once don't undo each other's work unseen.
 */
import { TsrtError } from '../../errors.ts';

/** One file of a baseline. */
export interface BaselinePlace {
  readonly name: string;
  /** Folder names of the suite and the device: their own names, unless those are not fit for folders. */
  readonly suite: string;
  readonly device: string;
  /** A path or a URL, for people. */
  readonly path: string;
}

/** What is to be kept at a place. */
export interface BaselineFile {
  readonly suite: string;
  readonly device: string;
  readonly text: string;
  readonly entry: UpdateEntry;
}

/** A line of a place's history. */
export interface UpdateEntry {
  readonly at: string;
  /** The run that became the baseline. */
  readonly runId: string;
  readonly cases: number;
  /** Why, where it came after a gate: what was judged, and what changed, as sentences. */
  readonly verdict?: string;
  readonly changes?: readonly string[];
  /** Taken although the gate did not pass. */
  readonly forced?: boolean;
}

export interface BaselineStore {
  /** For people; never holds a credential. */
  readonly label: string;
  names(): Promise<readonly string[]>;
  /** Of one name, or of all; sorted. */
  places(name?: string): Promise<readonly BaselinePlace[]>;
  /** The bytes as they were written. Throws RESULTS_INVALID where they are not those. */
  read(place: BaselinePlace): Promise<Buffer>;
  /**
   * Puts all files under a name, or none. What was there goes to the history. Throws USAGE where something is there and `force`
   * is not given, RESULTS_LOCKED where another process writes or wrote the same place meanwhile.
   */
  replace(name: string, files: readonly BaselineFile[], force: boolean): Promise<readonly BaselinePlace[]>;
  remove(name: string, places: readonly BaselinePlace[]): Promise<void>;
  /** Oldest first. */
  history(place: BaselinePlace): Promise<readonly UpdateEntry[]>;
}

/** USAGE for places that hold something already. */
export function taken(name: string, places: readonly BaselinePlace[]): TsrtError {
  return new TsrtError('USAGE', `baseline '${name}' already has records of ${places.map((place) => `${place.suite} on ${place.device}`).join(', ')}`, {
    place: places.map((place) => place.path).join(', '),
    fix: 'overwrite them with --force, or choose another name',
  });
}
