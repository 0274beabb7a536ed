/** The contract of a dataset that a plugin gives; a suite names it as `dataset.source`. */
import type { Dataset, DatasetRequest } from './datasets.ts';
import type { ImageFolder, ImageFolderOptions } from './images.ts';

/** One of `images` and `open` is given. */
export interface DatasetSource {
  /** Lower-case letters, digits and dashes. */
  readonly name: string;
  readonly description: string;
  /** Lists labelled pictures of a folder; the harness decodes, preprocesses, hashes and parts them as it does its own. */
  images?(folder: string, options: ImageFolderOptions): Promise<ImageFolder>;
  /** Gives batches of tensors itself. `request.folder` is the suite's `dataset.path`, absolute, or undefined. */
  open?(request: DatasetRequest): Promise<Dataset>;
}
