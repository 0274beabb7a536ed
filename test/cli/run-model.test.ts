/** `run MODEL.onnx`: a model that comes without a suite, on the CPU. */
import { describe, expect, it } from 'vitest';
import { modelBytes, node, value } from '../unit/onnx/models.ts';
import { workplace } from './cli.ts';

const model = modelBytes({
  inputs: [value('x', 'float32', ['n', 3, 'length']), value('rows', 'int64', ['n'])],
  outputs: [value('y', 'float32', ['n', 3, 'length'])],
  nodes: [node('Relu', ['x'], ['r']), node('Gather', ['r', 'rows'], ['y'])],
});

describe('run of a model', () => {
  it('measures it with made-up inputs, and goes on to a baseline and a gate by the same name', async () => {
    const place = await workplace();
    await place.write('my nets/model.onnx', model);
    const words = ['--backend', 'onnxruntime', '--batch', '2,3', '--dim', 'length=5', '--rounds', '2', '--time', '20ms'];
    const run = await place.run('run', 'my nets/model.onnx', ...words);
    expect({ status: run.status, stderr: run.stderr.replaceAll(/^\[.*\n/gm, '') }).toMatchObject({ status: 0 });
    expect(run.stdout).toMatch(/suite my-nets · model my-nets/);
    expect(run.stdout).toMatch(/onnxruntime\/fp32\/fusion-on +2 /);
    expect(run.stdout).toMatch(/onnxruntime\/fp32\/fusion-on +3 /);
    expect(run.stdout).toMatch(/next +tsrt-bench run 'my nets\/model.onnx' --backend onnxruntime --dim 'length=5' --batch 2 --batch 3 --time 20ms --rounds 24 && tsrt-bench baseline save main\n/);
    expect((await place.run('baseline', 'save', 'main')).status).toBe(0);
    const gated = await place.run('gate', 'my nets/model.onnx');
    expect(gated.stdout + gated.stderr).toMatch(/my-nets/);
    expect([0, 4]).toContain(gated.status);
  });

  it('asks for sizes that the model leaves open, and takes no ranges from made-up numbers', async () => {
    const place = await workplace();
    await place.write('net.onnx', model);
    const open = await place.run('run', 'net.onnx', '--backend', 'onnxruntime');
    expect(open.status).not.toBe(0);
    expect(open.stdout + open.stderr).toMatch(/--dim length=/);
    const calibrated = await place.runApart('calibrate', 'net.onnx', '-o', 'c.json');
    expect({ status: calibrated.status, stderr: calibrated.stderr }).toEqual({ status: 2, stderr: expect.stringMatching(/ranges from made-up numbers would mean nothing.*\n[^]*--model FILE and --dataset DIR/) });
  });

  it('compares what is inside of it with the reference', async () => {
    const place = await workplace();
    await place.write('net.onnx', model);
    const { status, stdout, stderr } = await place.run('debug', 'layers', 'net.onnx', '--backend', 'onnxruntime', '--batch', '2', '--dim', 'length=5');
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('error') });
    expect(stdout).toMatch(/^r +Relu +float32\[2,3,5\] +exact +– +0\.00 +/m);
    expect(stdout).toMatch(/inside +no value is off\noutput +'y' of the model as it is: exact/);
  });
});
