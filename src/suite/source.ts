/** The contract of a dataset, the harness's own or a plugin's: what is asked for, and batches of tensors as the answer. */
import type { TensorMap } from '../backends/backend.ts';
import type { Binding } from '../engine/engine.ts';
import type { ImageFolder, ImageFolderOptions } from './images.ts';
import type { SuiteInput } from './schema.ts';

/** What a plugin gives as a dataset; a suite names it as `dataset.source`. One of `images` and `open` is given. */
export interface DatasetSource {
  /** Lower-case letters, digits and dashes. */
  readonly name: string;
  readonly description: string;
  /** Lists labelled pictures of a folder; the harness decodes, preprocesses, hashes and parts them as it does its own. */
  images?(folder: string, options: ImageFolderOptions): Promise<ImageFolder>;
  /** Gives batches of tensors itself. `request.folder` is the suite's `dataset.path`, absolute, or undefined. */
  open?(request: DatasetRequest): Promise<Dataset>;
}

/** What a run, a calibration or the kit wants of a dataset. */
export interface DatasetRequest {
  readonly inputs: readonly SuiteInput[];
  /** The model's inputs with static shapes, the batch included. */
  readonly bindings: readonly Binding[];
  readonly batch: number;
  /** The plugin's dataset that the suite names; undefined: the harness's own folders and synthetic samples. */
  readonly source?: DatasetSource | undefined;
  /** A folder of images, or arrays (absolute); undefined: synthetic. */
  readonly folder: string | undefined;
  /** Number of the model's classes, where it has classes. */
  readonly classes: number | undefined;
  readonly labelsFile: string | undefined;
  /** Added to every label. */
  readonly labelOffset: number;
  readonly limit: number | undefined;
  /** One of two disjoint parts; undefined: all. */
  readonly part?: DatasetPart | undefined;
  readonly skipBroken: boolean;
  /** Whether pictures are wanted as bytes too, for engines that take them so. */
  readonly pictures?: boolean | undefined;
  /** Samples of a synthetic set. */
  readonly samples: number;
  readonly seed: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Samples set apart for calibration, spread evenly over the set and at most half of it, or the rest. What a calibration has
 * seen tells nothing of accuracy.
 */
export interface DatasetPart {
  readonly take: 'calibration' | 'rest';
  readonly calibrationSamples: number;
}

/** Samples that run together. The last batch of a set is filled up by repeating its last sample. */
export interface Batch {
  readonly inputs: TensorMap;
  /** Image inputs as uint8 [N, H, W, C], where they were asked for: the pixels of which `inputs` holds the numbers. */
  readonly pictures?: TensorMap;
  /** Real samples in it; at most the batch size. */
  readonly count: number;
  /** Class index as the model counts, per real sample. */
  readonly labels: readonly (number | undefined)[];
  readonly names: readonly string[];
}

/** Samples in a fixed order, which may be read several times: every reading gives the same. */
export interface Dataset {
  /** `imagenet-sample (500 images, labels from file names, sha256 …)` or `synthetic (32 samples, seed 1)`; goes into accuracy readings. */
  readonly description: string;
  /** Hash of names, labels and contents; undefined for a synthetic set. */
  readonly sha256: string | undefined;
  readonly size: number;
  readonly labelled: number;
  readonly notices: readonly string[];
  /** Files left out because they could not be decoded, known once the batches have been read. */
  readonly skipped: readonly string[];
  batches(signal?: AbortSignal): AsyncIterable<Batch>;
}
