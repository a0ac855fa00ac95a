package io.grpc.alts;

import io.grpc.ChannelCredentials;

/** Absent: the interop client names it, for connections inside Google's cloud. */
public final class AltsChannelCredentials {
  public static ChannelCredentials create() {
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

    public ChannelCredentials build() {
      return create();
    }
  }
}
