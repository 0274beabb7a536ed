/**
 * A kernel run between canaries: every buffer is longer than its tensor, and what lies behind it is filled with a pattern, as are the
 * outputs and scratch memory before the kernel runs. Runs with several patterns tell everything apart:
 *
 * - a pattern that changed: something was written past the end;
 * - an output that is still its pattern in every run: it was never written;
 * - an output that differs between patterns: something past the end, or an output or scratch memory as it was before, was read.
 *
 * Two further runs with the last pattern, one of them with the invocations numbered backwards, show what depends on chance, and what
 * depends on which invocation comes first: a race that a device happens to win every time the same way.
 *
 * Prior art: the red zones of AddressSanitizer and of NVIDIA's compute-sanitizer. WebGPU's own bounds checks stay on, so that what
 * lands beyond the canaries stays in the buffer too.
 */
import type { WebgpuDevice } from '../backends/webgpu/device.ts';
import { customKernels, customScratch, kernelScalar, type CustomKernelSpec, type CustomPass } from '../backends/webgpu/kernels/custom.ts';
import { elementCount, fromNumbers, toNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';

/** Elements of red zone: a workgroup that is one too many lands in it whole. */
const GUARD = 512;

/** As float32: a large number, its negative, NaN, zero. One of them shows in sums, minima, maxima, products and flags alike. */
const POISONS = [0x5a5a5a5a, 0xda5a5a5a, 0xffffffff, 0] as const;

/** `STORAGE | COPY_SRC | COPY_DST` and `MAP_READ | COPY_DST` of the WebGPU specification. */
const USAGE = { data: 0x80 | 0x4 | 0x8, readback: 0x1 | 0x8 } as const;

/** GPUShaderStage.COMPUTE. */
const COMPUTE = 0x4;

export type CanaryResult =
  | { readonly ok: true; readonly outputs: readonly Tensor[] }
  /** What the kernel did, with the operand's name. */
  | { readonly ok: false; readonly what: string };

interface Operand {
  readonly name: string;
  readonly type: TensorType;
  readonly words: Uint32Array;
  /** What lies behind it, and was in it where it is no input. */
  readonly poison: number;
  readonly isOutput: boolean;
}

/** Runs the kernel once per poison, then with the last again and backwards. */
export async function runWithCanaries(spec: Omit<CustomKernelSpec, 'guard'>, inputs: readonly (Tensor | undefined)[], open: WebgpuDevice): Promise<CanaryResult> {
  const { op } = spec.definition;
  // As in an engine: where nothing comes out, no kernel is made.
  if (spec.outputs.every(({ dims }) => elementCount(dims) === 0)) return { ok: true, outputs: spec.outputs.map((type) => fromNumbers(type.dtype, type.dims, [])) };
  const guarded = { ...spec, guard: GUARD };
  const passes = customKernels(guarded, open.profile);
  if (!sameCode(customKernels(guarded, open.profile), passes)) return { ok: false, what: 'is not deterministic: emit gives other code the second time' };
  if (passes.length === 0) return { ok: false, what: `asks for no threads, and ${op.outputs[spec.outputs.findIndex(({ dims }) => elementCount(dims) > 0)]!} has elements` };
  const straight = await compileAll(passes, open);
  if (typeof straight === 'string') return { ok: false, what: straight };
  const mirrored = await compileAll(customKernels({ ...guarded, backwards: true }, open.profile), open);
  if (typeof mirrored === 'string') return { ok: false, what: mirrored };
  // Few workgroups a dimension: the grid that an engine has beyond 65,535 of them.
  const folded = await compileAll(customKernels(guarded, { ...open.profile, maxWorkgroupsPerDimension: 3 }), open);
  if (typeof folded === 'string') return { ok: false, what: folded };
  const scratch = Object.entries(customScratch(spec));
  const runs: Operand[][] = [];
  const last = POISONS.at(-1)!;
  for (const [poison, compiled] of [...POISONS.map((poison) => [poison, straight] as const), [last, straight] as const, [last, mirrored] as const, [last, folded] as const]) {
    const operands = [
      ...op.inputs.flatMap(({ name }, i) => (inputs[i] ? [operandOf(name, inputs[i], inputs[i], poison)] : [])),
      ...op.outputs.map((name, i) => ({ ...operandOf(name, spec.outputs[i]!, undefined, poison), isOutput: true })),
      // Another poison than the outputs', so that one which comes out of scratch memory is not taken for an output that nothing wrote.
      ...scratch.map(([name, type]) => operandOf(name, type, undefined, POISONS[(POISONS.indexOf(poison) + 1) % POISONS.length]!)),
    ];
    runs.push(await dispatch(open, compiled, operands));
    for (const operand of runs.at(-1)!) {
      const hit = operand.words.subarray(elementCount(operand.type.dims)).findIndex((word) => word !== operand.poison);
      if (hit >= 0) return { ok: false, what: `writes past the end of '${operand.name}', by ${hit + 1}` };
    }
  }
  return judge(runs);
}

function judge(runs: readonly (readonly Operand[])[]): CanaryResult {
  const poisoned = runs.slice(0, POISONS.length);
  const outputs: Tensor[] = [];
  for (const [index, operand] of runs[0]!.entries()) {
    if (!operand.isOutput) continue;
    const words = (run: readonly Operand[]): Uint32Array => run[index]!.words;
    const [last, again, backwards, folded] = runs.slice(POISONS.length - 1).map(words) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
    const where = (differs: (i: number) => boolean): number => operand.words.subarray(0, elementCount(operand.type.dims)).findIndex((_, i) => differs(i));
    const faults: readonly (readonly [number, (at: number) => string])[] = [
      [where((i) => poisoned.every((run, p) => words(run)[i] === POISONS[p])), (at) => `never writes element ${at} of '${operand.name}'`],
      [where((i) => again[i] !== last[i]), (at) => `is not deterministic: element ${at} of '${operand.name}' differs between two runs`],
      [where((i) => poisoned.some((run) => words(run)[i] !== last[i])), (at) => `reads past the end: element ${at} of '${operand.name}' depends on what lies behind a buffer, or was in it (or in scratch memory) before`],
      [where((i) => folded[i] !== last[i]), (at) => `is wrong in a grid of two dimensions, which more than 65535 workgroups make: element ${at} of '${operand.name}' is another there (take the flat index i, not wid.x)`],
      [where((i) => backwards[i] !== last[i]), (at) => `has a race: element ${at} of '${operand.name}' depends on which invocation runs first`],
    ];
    const fault = faults.find(([at]) => at >= 0);
    if (fault) return { ok: false, what: fault[1](fault[0]) };
    outputs.push(fromWords(operand));
  }
  return { ok: true, outputs };
}

function operandOf(name: string, { dtype, dims }: TensorType, tensor: Tensor | undefined, poison: number): Operand {
  const count = elementCount(dims);
  const words = new Uint32Array(count + GUARD).fill(poison);
  if (tensor) words.set(toWords(tensor));
  return { name, type: { dtype, dims }, words, poison, isOutput: false };
}

function toWords(tensor: Tensor): Uint32Array {
  const values = toNumbers(tensor);
  const scalar = kernelScalar(tensor.dtype);
  if (scalar === 'f32') return new Uint32Array(Float32Array.from(values).buffer);
  return scalar === 'i32' ? new Uint32Array(Int32Array.from(values).buffer) : Uint32Array.from(values);
}

function fromWords({ type, words }: Operand): Tensor {
  const { buffer } = words.slice(0, elementCount(type.dims));
  const scalar = kernelScalar(type.dtype);
  return fromNumbers(type.dtype, type.dims, scalar === 'f32' ? new Float32Array(buffer) : scalar === 'i32' ? new Int32Array(buffer) : new Uint32Array(buffer));
}

const sameCode = (some: readonly CustomPass[], others: readonly CustomPass[]): boolean => some.length === others.length && some.every(({ source }, i) => source.wgsl === others[i]!.source.wgsl);

/** A pass on the device. */
interface Compiled {
  readonly pass: CustomPass;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** The passes' pipelines, or why there is none: WGSL that does not compile is the plugin's. */
async function compileAll(passes: readonly CustomPass[], open: WebgpuDevice): Promise<readonly Compiled[] | string> {
  const compiled: Compiled[] = [];
  for (const [index, pass] of passes.entries()) {
    const layout = open.device.createBindGroupLayout({
      entries: pass.source.access.map((access, binding) => ({ binding, visibility: COMPUTE, buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' } })),
    });
    const pipeline = await compile(pass.source.wgsl, layout, open);
    if (typeof pipeline === 'string') return passes.length > 1 ? `${pipeline}, pass ${index + 1} of ${passes.length}` : pipeline;
    compiled.push({ pass, pipeline, layout });
  }
  return compiled;
}

async function compile(wgsl: string, layout: GPUBindGroupLayout, { device }: WebgpuDevice): Promise<GPUComputePipeline | string> {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: wgsl });
  const info = await module.getCompilationInfo();
  const pipeline = await device.createComputePipelineAsync({ layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module, entryPoint: 'main' } }).catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  await device.popErrorScope();
  const first = info.messages.find(({ type }) => type === 'error');
  if (first) {
    const line = wgsl.split('\n')[first.lineNum - 1]?.trim() ?? '';
    return `does not compile: ${first.message} (in \`${line}\`)`;
  }
  return typeof pipeline === 'string' ? `does not compile: ${pipeline.split('\n')[0]}` : pipeline;
}

/** All passes, one after the other, over the operands. */
async function dispatch({ device }: WebgpuDevice, compiled: readonly Compiled[], operands: readonly Operand[]): Promise<Operand[]> {
  const buffers = operands.map(({ words }) => {
    const buffer = device.createBuffer({ size: words.byteLength, usage: USAGE.data });
    device.queue.writeBuffer(buffer, 0, words as Uint32Array<ArrayBuffer>);
    return buffer;
  });
  const results = operands.map(({ words }) => device.createBuffer({ size: words.byteLength, usage: USAGE.readback }));
  device.pushErrorScope('validation');
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const { pass: { bound, workgroups }, pipeline, layout } of compiled) {
    const entries = bound.map((name, binding) => ({ binding, resource: { buffer: buffers[operands.findIndex((operand) => operand.name === name)]! } }));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(...workgroups);
  }
  pass.end();
  for (const [index, buffer] of buffers.entries()) encoder.copyBufferToBuffer(buffer, 0, results[index]!, 0, operands[index]!.words.byteLength);
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error) throw new Error(error.message);
  try {
    return await Promise.all(
      operands.map(async (operand, index) => {
        const result = results[index]!;
        await result.mapAsync(0x1);
        return { ...operand, words: new Uint32Array(result.getMappedRange().slice(0)) };
      }),
    );
  } finally {
    for (const buffer of [...buffers, ...results]) buffer.destroy();
  }
}
