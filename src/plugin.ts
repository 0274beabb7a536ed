/**
 * A plugin is a value (prior art: esbuild, vite). It adds custom ops, backends, datasets, calibrators, reporters and suites; the
 * registry collects plugins, refuses conflicts and puts the plugin's name on every error that its code raises.
 */
import type { Backend } from './backends/backend.ts';
import type { AttributeSpecs, CustomOp } from './ir/custom.ts';
import type { OpKind } from './ir/ops.ts';
import type { Distribution } from './quantize/observer.ts';
import type { Range, Scheme } from './quantize/params.ts';
import type { Reporter } from './report/reporter.ts';
import type { DatasetSource } from './suite/source.ts';

/** Chooses the range that the 8-bit grid of one tensor covers. A suite names it as `quantization.method`. */
export interface Calibrator {
  /** Lower-case letters, digits and dashes. */
  readonly name: string;
  readonly description: string;
  /** From the histogram of what was observed; zero must lie in the range, and the range within the values seen. */
  range(distribution: Distribution, options: { readonly scheme: Scheme }): Range;
}

/** What a module exports by `definePlugin`: a name and version, and any of the parts. Checked when it is loaded; an unknown key is an error. */
export interface Plugin {
  /** Lower-case letters, digits and dashes. */
  readonly name: string;
  /** Semantic version; engines record it. */
  readonly version: string;
  readonly ops?: readonly CustomOp[];
  readonly backends?: readonly Backend[];
  readonly datasets?: readonly DatasetSource[];
  readonly calibrators?: readonly Calibrator[];
  readonly reporters?: readonly Reporter[];
  /** Folders that hold a suite file each (paths or `file:` URLs); a suite is called by its folder's name. */
  readonly suites?: readonly (string | URL)[];
}

/** The identity, with types: gives completion and checks where a plugin is written. */
export function definePlugin(plugin: Plugin): Plugin {
  return plugin;
}

/** The identity for an op: infers the types of `attrs` from the schema of the attributes. */
export function defineOp<const A extends AttributeSpecs>(op: CustomOp<A, OpKind>): CustomOp {
  // The functions take exactly what the schema describes; whoever calls them reads attributes by the schema first.
  return op as unknown as CustomOp;
}
