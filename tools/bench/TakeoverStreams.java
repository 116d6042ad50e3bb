import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One member of the bench of takeovers (tools/bench/takeover): counts records by key in a store with a standby, and prints
 * "PARTITION OFFSET TIME" when a record's new count is out. Arguments: BOOTSTRAP TOPIC STATE_FOLDER.
 *
 * SIGTERM closes it and leaves the group; with KafkaStreams.close() alone it would stay a member until its session ends.
 */
public final class TakeoverStreams {
    private static final Duration CLOSE = Duration.ofSeconds(20);

    private TakeoverStreams() {}

    /** Tells of each new count. */
    private static final class Tell extends ContextualProcessor<String, Long, Void, Void> {
        @Override
        public void process(Record<String, Long> count) {
            RecordMetadata record = context().recordMetadata().orElseThrow();
            System.out.println(record.partition() + " " + record.offset() + " " + System.currentTimeMillis());
            if (System.out.checkError()) {
                Runtime.getRuntime().halt(1); // nobody reads any more
            }
        }
    }

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put("session.timeout.ms", 6_000);
        settings.put("heartbeat.interval.ms", 1_000);
        settings.put("auto.offset.reset", "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(arguments[1])
                .groupByKey()
                .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("views").withCachingDisabled())
                .toStream()
                .process(Tell::new);

        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(
                CloseOptions.timeout(CLOSE).withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP))));
        streams.start();
    }
}
