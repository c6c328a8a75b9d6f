import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.IDaoRegistry;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.packages.IPackageInstallerSvc;
import ca.uhn.fhir.jpa.packages.PackageInstallationSpec;
import ca.uhn.fhir.jpa.provider.DaoRegistryResourceSupportedSvc;
import ca.uhn.fhir.jpa.provider.JpaSystemProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.api.IResourceSupportedSvc;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import jakarta.persistence.EntityManagerFactory;
import java.io.ByteArrayInputStream;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Properties;
import java.util.function.Function;
import javax.sql.DataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.h2.jdbcx.JdbcConnectionPool;
import org.hl7.fhir.utilities.npm.NpmPackage;
import org.opencds.cqf.fhir.cr.hapi.common.StringTimePeriodHandler;
import org.opencds.cqf.fhir.cr.hapi.r4.measure.MeasureOperationsProvider;
import org.opencds.cqf.fhir.cr.hapi.repository.ClinicalIntelligenceHapiFhirRepository;
import org.opencds.cqf.fhir.cr.measure.MeasureEvaluationOptions;
import org.opencds.cqf.fhir.cr.measure.common.MeasurePeriodValidator;
import org.opencds.cqf.fhir.cr.measure.r4.R4MultiMeasureService;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;

/**
 * HAPI FHIR's JPA server (R4) at http://127.0.0.1:PORT/fhir, with its database in memory, and its
 * clinical reasoning: Measure/$evaluate-measure.
 *
 * <p>Usage: HapiServer PORT [PACKAGE]. A FHIR package (.tgz) is installed, without what it depends
 * on. It prints one line when it answers, and forgets everything at its end.
 */
public final class HapiServer {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        ((Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME)).setLevel(Level.WARN);
        var beans = new AnnotationConfigApplicationContext(Storage.class);

        var fhir = new RestfulServer(beans.getBean(FhirContext.class));
        fhir.registerProviders(beans.getBean(ResourceProviderFactory.class).createProviders());
        fhir.registerProvider(beans.getBean(JpaSystemProvider.class));
        fhir.registerProvider(measures(beans));
        fhir.setPagingProvider(beans.getBean(DatabaseBackedPagingProvider.class));
        fhir.setDefaultResponseEncoding(EncodingEnum.JSON);

        if (arguments.length > 1) {
            install(beans.getBean(IPackageInstallerSvc.class), Path.of(arguments[1]));
        }

        var servlets = new ServletContextHandler();
        servlets.addServlet(new ServletHolder(fhir), "/fhir/*");
        var server = new Server(new InetSocketAddress("127.0.0.1", port));
        server.setHandler(servlets);
        server.start();
        System.out.println("HAPI FHIR answers on http://127.0.0.1:" + port + "/fhir");
    }

    private static MeasureOperationsProvider measures(AnnotationConfigApplicationContext beans) {
        // What it reads itself it reads in one page: of ten a page a patient's results are many.
        var pages =
                beans.getAutowireCapableBeanFactory().createBean(DatabaseBackedPagingProvider.class);
        pages.setDefaultPageSize(1000);
        pages.setMaximumPageSize(1000);
        var reads = new RestfulServer(beans.getBean(FhirContext.class));
        reads.setPagingProvider(pages);
        var registry = beans.getBean(DaoRegistry.class);
        var options = MeasureEvaluationOptions.defaultOptions();
        var periods = new MeasurePeriodValidator();
        Function<RequestDetails, R4MultiMeasureService> service =
                request ->
                        new R4MultiMeasureService(
                                new ClinicalIntelligenceHapiFhirRepository(registry, request, reads),
                                options,
                                request.getFhirServerBase(),
                                periods);
        return new MeasureOperationsProvider(
                service::apply, service::apply, new StringTimePeriodHandler(ZoneOffset.UTC));
    }

    private static void install(IPackageInstallerSvc installer, Path file) throws Exception {
        var bytes = Files.readAllBytes(file);
        var named = NpmPackage.fromPackage(new ByteArrayInputStream(bytes));
        var asked =
                new PackageInstallationSpec()
                        .setName(named.name())
                        .setVersion(named.version())
                        .setPackageContents(bytes)
                        .setInstallMode(PackageInstallationSpec.InstallModeEnum.STORE_AND_INSTALL)
                        .setFetchDependencies(false);
        asked.setInstallResourceTypes(
                List.of("CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "Library", "Measure", "PlanDefinition"));
        installer.install(asked);
    }

    /** What HAPI leaves to its user: the database, and the settings. */
    @Configuration
    @Import({
        JpaR4Config.class,
        JpaBatch2Config.class,
        Batch2JobsConfig.class,
        SubscriptionChannelConfig.class,
        ThreadPoolFactoryConfig.class,
    })
    public static class Storage {
        @Bean
        public JpaStorageSettings storageSettings() {
            var settings = new JpaStorageSettings();
            settings.setHibernateSearchIndexFullText(false);
            // A story refers to practitioners and specimens that it does not hold.
            settings.setEnforceReferentialIntegrityOnWrite(false);
            // A search sees what was written a moment ago.
            settings.setReuseCachedSearchResultsForMillis(null);
            return settings;
        }

        @Bean
        public PartitionSettings partitionSettings() {
            return new PartitionSettings();
        }

        @Bean
        public SubscriptionSettings subscriptionSettings() {
            return new SubscriptionSettings();
        }

        /** Pages of HAPI's own sizes: 10, and 50 at the most, whatever _count asks for. */
        @Bean
        public DatabaseBackedPagingProvider paging() {
            return new DatabaseBackedPagingProvider();
        }

        @Bean
        public IResourceSupportedSvc resourceSupported(IDaoRegistry registry) {
            return new DaoRegistryResourceSupportedSvc(registry);
        }

        @Bean
        public DataSource dataSource() {
            return JdbcConnectionPool.create("jdbc:h2:mem:hapi;DB_CLOSE_DELAY=-1", "sa", "");
        }

        @Bean
        public LocalContainerEntityManagerFactoryBean entityManagerFactory(
                ConfigurableListableBeanFactory beans,
                FhirContext fhir,
                JpaStorageSettings settings,
                DataSource dataSource) {
            var factory = HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, fhir, settings);
            factory.setPersistenceUnitName("hapi");
            factory.setDataSource(dataSource);
            var jpa = new Properties();
            jpa.put("hibernate.dialect", HapiFhirH2Dialect.class.getName());
            jpa.put("hibernate.hbm2ddl.auto", "create");
            jpa.put("hibernate.search.enabled", "false");
            factory.setJpaProperties(jpa);
            return factory;
        }

        @Bean
        public JpaTransactionManager transactionManager(EntityManagerFactory factory) {
            return new JpaTransactionManager(factory);
        }
    }
}
