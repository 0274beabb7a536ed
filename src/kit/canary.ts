/**
 * A kernel run between canaries: every buffer is longer than its tensor, what lies behind it is filled with a pattern, and
 * outputs start as another. Two runs with two patterns tell everything apart:
 *
 * - a pattern that changed: something was written past the end;
 * - an output that differs between the runs: something past the end, or an output itself, was read;
 * - an output that is still its pattern in both: it was never written.
 *
 * Prior art: the red zones of AddressSanitizer and of NVIDIA's compute-sanitizer. WebGPU's own bounds checks stay on, so that what
 * lands beyond the canaries stays in the buffer too.
 */
import type { WebgpuDevice } from '../backends/webgpu/device.ts';
import { customKernel, kernelScalar, type CustomKernelSpec } from '../backends/webgpu/kernels/custom.ts';
import { elementCount, fromNumbers, toNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';

/** Elements of red zone: a workgroup that is one too many lands in it whole. */
const GUARD = 512;

/** As float32, one is a large odd number, the other NaN: both show in whatever is computed from them. */
const POISONS = [0x5a5a5a5a, 0xffffffff] as const;

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
  readonly isOutput: boolean;
}

/** Runs the kernel three times: once per poison, and the second again for determinism. */
export async function runWithCanaries(spec: Omit<CustomKernelSpec, 'guard'>, inputs: readonly (Tensor | undefined)[], open: WebgpuDevice): Promise<CanaryResult> {
  const { op } = spec.definition;
  const { source, workgroups, code } = customKernel({ ...spec, guard: GUARD }, open.profile);
  const again = customKernel({ ...spec, guard: GUARD }, open.profile);
  if (again.source.wgsl !== source.wgsl) return { ok: false, what: 'is not deterministic: emit gives other code the second time' };
  const layout = open.device.createBindGroupLayout({
    entries: source.access.map((access, binding) => ({ binding, visibility: COMPUTE, buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' } })),
  });
  const pipeline = await compile(source.wgsl, layout, open);
  if (typeof pipeline === 'string') return { ok: false, what: pipeline };
  const runs: Operand[][] = [];
  for (const poison of [POISONS[0], POISONS[1], POISONS[1]]) {
    const operands = [
      ...op.inputs.flatMap(({ name }, i) => (inputs[i] ? [operandOf(name, inputs[i], inputs[i], poison)] : [])),
      ...op.outputs.map((name, i) => operandOf(name, spec.outputs[i]!, undefined, poison)),
    ];
    runs.push(code.threads === 0 ? operands : await dispatch(open, pipeline, layout, operands, workgroups));
    for (const operand of runs.at(-1)!) {
      const hit = operand.words.subarray(elementCount(operand.type.dims)).findIndex((word) => word !== poison);
      if (hit >= 0) return { ok: false, what: `writes past the end of '${operand.name}', by ${hit + 1}` };
    }
  }
  return judge(runs as [Operand[], Operand[], Operand[]]);
}

function judge([first, second, third]: readonly [Operand[], Operand[], Operand[]]): CanaryResult {
  const outputs: Tensor[] = [];
  for (const [index, operand] of first.entries()) {
    if (!operand.isOutput) continue;
    const count = elementCount(operand.type.dims);
    const other = second[index]!.words;
    for (let i = 0; i < count; i++) {
      if (operand.words[i] === POISONS[0] && other[i] === POISONS[1]) return { ok: false, what: `never writes element ${i} of '${operand.name}'` };
    }
    for (let i = 0; i < count; i++) {
      if (other[i] !== third[index]!.words[i]) return { ok: false, what: `is not deterministic: element ${i} of '${operand.name}' differs between two runs` };
      if (operand.words[i] !== other[i]) return { ok: false, what: `reads past the end: element ${i} of '${operand.name}' depends on what lies behind a buffer, or was in it before` };
    }
    outputs.push(fromWords(operand));
  }
  return { ok: true, outputs };
}

function operandOf(name: string, { dtype, dims }: TensorType, tensor: Tensor | undefined, poison: number): Operand {
  const count = elementCount(dims);
  const words = new Uint32Array(count + GUARD).fill(poison);
  if (tensor) words.set(toWords(tensor));
  return { name, type: { dtype, dims }, words, isOutput: tensor === undefined };
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

/** The pipeline, or why there is none: WGSL that does not compile is the plugin's. */
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

async function dispatch({ device }: WebgpuDevice, pipeline: GPUComputePipeline, layout: GPUBindGroupLayout, operands: readonly Operand[], workgroups: readonly [number, number, number]): Promise<Operand[]> {
  const buffers = operands.map(({ words }) => {
    const buffer = device.createBuffer({ size: words.byteLength, usage: USAGE.data });
    device.queue.writeBuffer(buffer, 0, words as Uint32Array<ArrayBuffer>);
    return buffer;
  });
  const results = operands.map(({ words }) => device.createBuffer({ size: words.byteLength, usage: USAGE.readback }));
  device.pushErrorScope('validation');
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })) }));
  pass.dispatchWorkgroups(...workgroups);
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
