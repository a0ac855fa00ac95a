package io.grpc.alts;

import io.grpc.ServerCredentials;

/** Absent: the interop server names it, for connections inside Google's cloud. */
public final class AltsServerCredentials {
  public static ServerCredentials create() {
    throw new UnsupportedOperationException("ALTS");
  }

  public static Builder newBuilder() {
    throw new UnsupportedOperationException("ALTS");
  }

  public static final class Builder {
    public Builder enableUntrustedAltsForTesting() {
      return this;
    }

    public Builder setHandshakerAddressForTesting(String address) {
      return this;
    }

    public ServerCredentials build() {
      return create();
    }
  }
}
