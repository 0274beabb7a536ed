/** What the stages of a run share. */
import type { Availability, Backend } from '../../backends/backend.ts';
import type { Registry } from '../../registry.ts';
import type { Case } from '../../results/record.ts';
import type { ResolvedModel } from '../../suite/models.ts';
import type { Suite } from '../../suite/schema.ts';
import type { KeptEngines } from './kept-engines.ts';
import type { PrebuiltEngines } from './prebuilt.ts';
import type { RecordContext } from './records.ts';
import type { RunRequest } from './request.ts';

/** Everything that is fixed before the first engine is built. */
export interface Sweep {
  readonly request: RunRequest;
  readonly registry: Registry;
  readonly probe: (backend: Backend) => Promise<Availability>;
  readonly suite: Suite;
  readonly model: ResolvedModel;
  readonly modelBytes: Uint8Array;
  /** Cases still to do. */
  readonly cases: readonly Case[];
  readonly prebuilt: PrebuiltEngines;
  /** Of the same run before it was cut off. */
  readonly kept?: KeptEngines;
  /** Engines and inputs of this run; removed at its end. */
  readonly folder: string;
  readonly context: RecordContext;
}
