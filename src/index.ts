/** The public API: what plugins and programs import as `tsrt-bench`. */
export { definePlugin, defineOp, type Calibrator, type Plugin } from './plugin.ts';
export type { Backend } from './backends/backend.ts';
export type { Reporter, ReportInput } from './report/reporter.ts';

// Custom ops.
export type {
  AttributeSpec,
  AttributeSpecs,
  AttributeValues,
  CustomOp,
  Decomposer,
  Int8Behaviour,
  Int8Grid,
  KernelBuffer,
  KernelCode,
  KernelSite,
  OpInput,
  Operands,
  OpPattern,
  PatternExpr,
  PatternMatch,
  ReferenceTensor,
  ScratchSite,
  SizeSpecs,
  Tile,
  Tolerance,
  WgslKernel,
} from './ir/custom.ts';
export type { Expr } from './ir/expr.ts';
export { formula, type Operand } from './ops/formula.ts';
export type { OpAttrs, OpKind } from './ir/ops.ts';
export { ShapeError } from './ops/def.ts';
export { constant, either, named, number, op, scalar, value, type Pattern } from './passes/pattern.ts';

// Tensors.
export { elementCount, formatType, fromNumbers, toNumbers, type Dims, type DType, type Tensor, type TensorType } from './ir/tensor.ts';

// Datasets and calibrators.
export type { Batch, Dataset, DatasetPart, DatasetRequest, DatasetSource } from './suite/source.ts';
export type { ImageFile, ImageFolder, ImageFolderOptions } from './suite/images.ts';
export type { Distribution } from './quantize/observer.ts';
export type { Range, Scheme } from './quantize/params.ts';

export { TsrtError, type ErrorCode, type ErrorOptions, type ErrorReport, type ExitStatus } from './errors.ts';

// Backends: the contract, and outside programs as backends (docs/external-protocol.md).
export type {
  Availability,
  BuildContext,
  BuildInput,
  Clock,
  DeviceInfo,
  DevicePeaks,
  DeviceYardstick,
  Execution,
  FrozenTactics,
  LayerTime,
  LoadOptions,
  LoadSteps,
  Loop,
  ObservedMemory,
  ReferenceModel,
  ReferenceSource,
  Session,
  TensorMap,
  TuningContext,
  Unsupported,
} from './backends/backend.ts';
export type { OptionSpec, OptionSpecs, OptionValues } from './backends/options.ts';
export { readOptions } from './backends/options.ts';
export { checkInputs } from './backends/inputs.ts';
export { cpuDevice } from './backends/cpu.ts';
export { externalBackend, type ExternalBackendOptions } from './backends/external/external.ts';
export { engineFrom, type ExternalBuild } from './backends/external/engine.ts';
export { createProgramClock, type ProgramClock } from './backends/external/clock.ts';
export { runTool, type ToolResult, type ToolRun } from './backends/external/tool.ts';
export { exportModel, foreignTypes, graphFiles, layersOf, moduleGraph, toolModel, type GraphFiles, type ModuleGraphOptions, type ToolModel } from './backends/external/model.ts';
export type { Binding, BuildOptions, Engine, EngineHeader, EngineLayer, MemoryLedger, Precision, TacticsReport } from './engine/engine.ts';
export type { PassReport } from './passes/pass.ts';
export type { AnyNode, Graph } from './ir/graph.ts';

// Reports.
export { buildReport, type MeasuredRow, type Report, type ReportRow, type UnmeasuredRow } from './report/rows.ts';
export type { ReportWarning } from './report/warnings.ts';
export type { Estimate } from './stats/interval.ts';
export type { RoundsEstimate } from './stats/rounds.ts';
export type { AbortedRecord, BenchRecord, Case, CompletedRecord, FailedRecord, Round, Scenario, SkippedRecord, SuitePlace, Variant } from './results/record.ts';
