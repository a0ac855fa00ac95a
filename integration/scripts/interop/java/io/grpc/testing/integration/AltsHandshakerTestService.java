package io.grpc.testing.integration;

import io.grpc.BindableService;
import io.grpc.ServerServiceDefinition;

/** Absent: the interop client starts it for connections inside Google's cloud. */
final class AltsHandshakerTestService implements BindableService {
  @Override
  public ServerServiceDefinition bindService() {
    throw new UnsupportedOperationException("ALTS");
  }
}
